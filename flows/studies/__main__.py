"""`python -m flows.studies NAME`, as studies/dvc.yaml calls it."""

from flows.running.runtime import main
from flows.studies.stage import studies_stage

if __name__ == "__main__":
    main(studies_stage, "studies", keyed=True)

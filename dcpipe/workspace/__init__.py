"""A workspace: a folder with Git and DVC in which `dvc repro` builds one condensed dataset.

* `code.py`        the code that a stage depends on, and its digest
* `pipeline.yaml`  the stages, without the code
* `dvcfiles.py`    the files of DVC: stages, studies and sources
* `digests.py`     code.yaml, which says for which code the data of a workspace was made
* `making.py`      makes a workspace of a preset, from the files of `skeleton`
* `upgrading.py`   brings code.yaml and the files of DVC up to the installed version

The checkout of dcpipe is a workspace too. Its stages depend on the files that they import; in any other workspace,
these are not among its files, so stages depend on digests in code.yaml instead.
"""

"""What `dcpipe COMMAND --help` teaches."""

OVERVIEW = """\
Turn an image-classification dataset into a condensed one: a few real images a class
and the compressed soft labels of their augmented views.

A workspace is a git repository with params.yaml (what the dataset is) and dvc.yaml (how it is made):

    dcpipe init digits        write params.yaml from a preset; `dcpipe init --list` shows them all
    dvc repro                 run the stages that are stale; interrupt it when you like, run it again to go on
    dcpipe status             what is made, how accurate its students are, what it weighs
    dcpipe study selection    compare selectors on this dataset, with error bars
    git commit -am "Build"    params.yaml and dvc.lock are the version
    dcpipe publish digits-score@v1.0.0

and for whoever receives it:

    dcpipe pull digits-score@v1.0.0 --repo URL --out digits
    python -c 'import dcpipe; print(len(dcpipe.load("digits").dataset()))'

Soft labels that SRe2L, LPLD, G-VBSM or EDC stored become such a set too:

    dcpipe import-labels FKD_soft_label/ syn_imagenet/ OUT
"""
INIT = """\
Write params.yaml from a preset. Presets are rows of published tables, or small sets for a CPU:

    dcpipe init --list                 one line for each preset: source, size, published accuracy, cost
    dcpipe init --list edc             only those with a word in their name, paper or set
    dcpipe init --show NAME            the whole file; its first lines say where the values come from, which accuracy
                                       was published, what a run costs and what the source leaves unstated
    dcpipe init NAME                   write it

A published figure of MDC is the average over all sizes; its cost is hours for the images + hours for the students. Edit
the file afterwards as you like; `dvc repro` finds out what a change makes stale.
"""
STATUS = """\
Show each stage (made or not, its size on disk) and the score table. Sizes are measured, not computed:
images, labels and teacher are what must be shipped for a row's accuracy; `labels in fp16` is what the same soft labels
take uncompressed, 2 bytes for each image, view and class.
"""
INSPECT = """\
List every file of an artifact or release, and in each file every array with its dtype, shape and bytes, then the
headers. Arrays are not loaded; a release is verified first.
"""
EVALUATE = """\
Train students from scratch on the condensed set and on the baselines that params.yaml names, then test them once; also
on the first so many images of each class that `evaluation.sizes` lists: `data/evaluation/sizes.csv`.
Runs `dvc repro evaluation`: what is up to date is not run again.
"""
STUDY = """\
Try many settings, train students on every outcome under the evaluation's one protocol, draw the result:

    selection      selectors compared, at each number of images a class (SCORE, Fig. 2)
    coefficients   alpha and beta of `score` moved, one at a time (SCORE, Fig. 4)
    labels         codecs compared on the condensed set's own labels, at equal bytes (SCORE, Fig. 3)
    resilience     what students lose when each selector's labels are compressed more and more (SCORE, Fig. 5)
    syntheses      ways to make the images side by side: EDC, G-VBSM, CDA, SRe2L, RDED, real ones (EDC, Table 1)
    ladder         EDC's design choices turned on one by one (EDC, Fig. 1 and Tables 3 to 5)
    sizes          one set at every smaller size, beside baselines A, B and C of its base method (MDC, Table 1)

studies/params.yaml says which settings, images per class and seeds; params.yaml says the rest (teachers, views, codec
and budget, students), so that all coresets are labelled, packed and judged alike. Runs `dvc repro
studies/dvc.yaml:NAME`, and what it needs of the line (images, teachers, features) before it; interrupt it when you
like, run it again to go on.

data/study/NAME gets results.csv (a row a selector, ipc and seed; of resilience also a ratio), summary.csv, figure.png
and, in picked/, the images; data/study/labels has spectra.csv, ranks.csv and spectra.png instead of images: how
low-rank the labels are.
"""
PUBLISH = """\
Make the git tag NAME@vX.Y.Z, NAME being release.name of params.yaml. Before that, git must be clean, `dvc status` empty
and the tag new; then the data is copied to the default DVC remote. Without a remote, a local folder becomes it
(DCPIPE_REMOTE, or ~/.local/share/dcpipe/remote). The tag is yours to push: the last line says how.
"""
PULL = """\
Fetch data/release as it was at a tag, through DVC, and verify it; `dvc get REPO data/release --rev TAG` fetches
the same files.
In Python, `dcpipe.load("NAME@vX.Y.Z", repo=...)` does it with a cache (DCPIPE_CACHE, or ~/.cache/dcpipe).
"""
EXPORT = """\
Write a release for other code, in one of these formats:

    folder      FOLDER/00000/00000.png and so on (class by index, image by rank: sorted names are the right order),
                classes.json and, for soft labels, labels.safetensors: logits fp16 [image, view, class] with the box
                and flip of every view
    parquet     what `datasets.load_dataset(FOLDER)` of Hugging Face reads: images, labels, and with --logits the same
                logits, boxes and flips as columns, which are large
    ddranking   images.pt, normalised, and labels.pt, the mean logits of each image (with --images-only its class), as
                DD-Ranking takes them: sorted by class
"""
IMPORT = """\
Turn the soft labels that SRe2L, LPLD, G-VBSM or EDC stored into a release that `dcpipe.load(OUT)` opens:

    dcpipe import-labels FKD_soft_label/ syn_imagenet/ srel-10 --codec lowrank_int8 --ratio 30

IMAGES is the ImageFolder that was labelled; its sorted folders and files are the dataset index. Crops, flips and CutMix
boxes are kept as they were, so students see what the teacher saw, in batches of any size. Files may hold tensors and
plain numbers alone: nothing in them is run. The k-th time an image appears is its view k; K is the least count.

SRe2L's batches do not say which images they show: the sampler is made again from --seed. Whether that succeeded only
shows in how often labels agree with their images' classes, which is printed beside chance.

The budget is that of the labels; the views' parameters come on top and are told apart. Interrupt it when you like, run
it again to go on (DCPIPE_SCRATCH, or .dcpipe/scratch; two copies of the fp16 logits at most).
"""
CLEAN = """\
Delete what killed or changed stages left in the scratch folder (DCPIPE_SCRATCH, or .dcpipe/scratch), and say how much
that was. Finished artifacts stay, and so does the work of a stage that is running.
"""

"""The texts of `dcpipe --help` and `dcpipe COMMAND --help`."""

OVERVIEW = """\
Turn an image-classification dataset into a condensed dataset: a few images per class, real or
synthesised, and the compressed soft labels of their augmented views.

A workspace is a git repository with params.yaml (what the dataset is) and dvc.yaml (how it is built):

    dcpipe init digits DIR    make a workspace from a preset; `dcpipe init --list` shows all presets
    cd DIR
    dcpipe check              find what is wrong in params.yaml, without running anything
    dcpipe plan               what every stage will take: passes, disk, memory, hours
    dvc repro                 run the stages that are stale; after an interruption, run it again to continue
    dcpipe status             which stages are built, student accuracy, and sizes on disk
    dcpipe study selection    compare selectors on this dataset, with error bars
    git add -A && git commit -m "Build"    params.yaml and the lock files are the version
    dcpipe publish digits-score@v1.0.0

Whoever receives the dataset loads it like this:

    dcpipe pull digits-score@v1.0.0 --repo URL --out digits
    python -c 'import dcpipe; print(len(dcpipe.load("digits").dataset()))'

Soft labels that SRe2L, LPLD, G-VBSM or EDC stored can be turned into such a dataset too:

    dcpipe import-labels FKD_soft_label/ syn_imagenet/ OUT

So can images that other projects condensed (DC, DSA, DM, MTT, DATM, IDC, DREAM, MDC, SRe2L, CDA, EDC, RDED, D4M):

    dcpipe import-images SOURCE OUT

Environment variables decide how `dvc repro` runs, never what it makes:

    DCPIPE_LOG=debug|info|warning             how much stages say; .dcpipe/logs has all of it, a file per run
    DCPIPE_METRICS=tensorboard|dvclive        write losses and accuracies of every epoch to .dcpipe/metrics
    DCPIPE_PREFECT=auto|require|off           whether a Prefect server shows the runs
    DCPIPE_DEVICE=auto|cpu|cuda|mps           where stages compute
    DCPIPE_WORKERS=N|auto|tcp://HOST:PORT     workers of Dask, for the parallel parts of stages
    DCPIPE_PROCESSES=N|auto                   processes that train a teacher together
"""
INIT = """\
Make a workspace from a preset. A preset is a row of a published table, or a small set for a CPU:

    dcpipe init --list          one line per preset: source, size, published accuracy, cost
    dcpipe init --list edc      only the presets with a word in their name, paper or dataset
    dcpipe init --show NAME     the whole params.yaml; its first lines say where the values come from, which accuracy
                                was published, what a run costs, and what the source leaves unstated
    dcpipe init NAME DIR        make a workspace in DIR, which is new or empty

The preset my-images is for images of your own. It looks at them and writes parameters that fit, with a comment on each
choice:

    dcpipe init my-images --data PATH [--ipc 10] DIR

PATH is one of: class folders, with or without splits such as train and val (Tiny-ImageNet as it is shipped, too); a
folder of images with a .csv or .tsv that gives the class of each; Parquet files; tar shards (WebDataset); the URL of
one of these, such as hf://datasets/USER/NAME; the name of a set of torchvision, such as CIFAR10.

A workspace is a git repository, or a folder of one, in which `dvc repro` builds one condensed dataset. Git and DVC are
initialised where they are not yet, and the files are added to git; nothing is committed. In a workspace that exists,
`dcpipe init NAME --force` writes params.yaml alone. How the disk links files to DVC's cache is tried once, and
.dvc/config.local says it afterwards.

The published accuracy of a row of MDC is the average over all sizes. Its cost is the hours for the images plus the
hours for the students. You can edit params.yaml afterwards; `dvc repro` finds out which stages a change makes stale.
"""
UPGRADE = """\
Build with the installed version of dcpipe from now on. A workspace remembers in code.yaml which code its data was made
with, so that a new version changes nothing by itself. This command says which stages have other code now, which makes
them stale, and which files of DVC this version writes otherwise; then it writes them, or only says so with --dry-run.
The data stays as it is until `dvc repro`.
"""
CHECK = """\
Check params.yaml, and studies/params.yaml if there is one, in the same way as `dvc repro` does before any work. The
check covers the names of methods, networks and protocols, the types and ranges of options, whether the networks take
images of this size, and whether the codec can reach its budget. It prints one line per kind of mistake, with what to
do. If there is none, it prints what will be built and how many bytes it will take. With --resolved, it prints the
parameters as YAML with every default filled in, including those of options.
"""
PLAN = """\
Tell what every stage of params.yaml will take, without running any of them: images that pass through networks,
optimiser steps, bytes and files on disk, memory, and hours on each number of devices; which stage takes longest, what
will not fit and which key to change.

    dcpipe plan --devices 1,8                   measure this machine for half a minute, for 1 and 8 devices like it
    dcpipe plan --device h100 --devices 1,8     from stored figures of a device; the table says where they are from
    dcpipe plan --images 1281167 --classes 1000 --test 50000     for images that are not here
    dcpipe plan --storage     only the bytes of soft labels, at several numbers of images per class and several ratios

Numbers of images come from data/images if it is there, else from the source. Passes, steps, files, and bytes of arrays
and packs are counted as the stages make them. Bytes of encoded images, memory and hours are estimates: the time of
network passes, decoding, encoding, packing, selection and reading, without start-up, and without waiting of one for
another.
"""
STATUS = """\
Show each stage (whether it is built, and its size on disk) and the table of scores. Sizes are measured, not computed.
`images`, `labels` and `teacher` are what must be shipped to reach the accuracy of a row. `labels in fp16` is the size
of the same soft labels without compression, 2 bytes for each image, view and class.

With --verify, hash every file of every artifact below data/ instead and print a line for each artifact. Damaged ones go
to standard error, and the exit code is 2 if there is one.
"""
INSPECT = """\
Verify every byte of an artifact or release against its artifact.json, then list its files. For each file, show every
array with its dtype, shape and bytes, then the headers. Arrays are not loaded. A damaged file is named, and nothing is
listed. A folder of several artifacts is verified as a whole; what belongs to none is listed as "not verified".
"""
EVALUATE = """\
Train students from scratch on the condensed set and on the baselines that params.yaml names, then test them once. For
each n in `evaluation.sizes`, also train students on the first n images of each class, with results in
data/evaluation/sizes.csv. This command runs `dvc repro evaluation`; stages that are up to date are not run again.
"""
STUDY = """\
Try many settings, train students on every result under the protocol of `evaluation`, and draw a figure:

    selection      compare selectors at each number of images per class (SCORE, Fig. 2)
    coefficients   vary alpha and beta of `score`, one at a time (SCORE, Fig. 4)
    labels         compare codecs on the labels of the condensed set, at equal bytes (SCORE, Fig. 3)
    resilience     what students lose as the labels of each selector are compressed further (SCORE, Fig. 5)
    syntheses      compare ways to make the images: EDC, G-VBSM, CDA, SRe2L, RDED, real images (EDC, Table 1)
    ladder         EDC's design choices, added one by one (EDC, Fig. 1 and Tables 3 to 5)
    sweep          a named grid of settings, as in `dcpipe study sweep iterations-digits` (EDC, Tables 3 to 5, 11 to 21)
    sizes          one set at every smaller size, with baselines A, B and C and slimmed sets (MDC, Tables 1 and 2c)
    students       several networks on one set, with their learning curves (SCORE, Table 4)
    compressions   image sets made in several ways, each with labels of every codec at every ratio (SCORE, Table 2)
    slimming       a smaller network, repaired by training on the condensed set (EDC, Fig. 4)
    continual      classes learnt task by task from a memory: the condensed set, or real images (EDC, Fig. 4)
    landscape      sharpness of students, Hessian of synthesis, cosine of batches' gradients (EDC, Fig. 2)

studies/params.yaml lists the settings, the numbers of images per class and the seeds. Everything else comes from
params.yaml (teachers, views, codec and budget, students), so that all sets are labelled, packed and evaluated in the
same way. This command runs `dvc repro studies/dvc.yaml:NAME`, which first builds the stages of the pipeline that the
study needs (images, teachers, features). After an interruption, run it again to continue.

data/study/NAME contains results.csv (one row per selector, ipc and seed; for resilience and compressions also per codec
and ratio), summary.csv, figure.png and, in picked/ or images/, the images. Instead of images, data/study/labels has
spectra.csv, ranks.csv and spectra.png, which show how low the rank of the labels is.
"""
JUDGE = """\
Train students on a condensed set, whoever made it, and on what it must be compared with, and print one table:

    the set as it is shipped; its images with hard labels; with uncompressed labels and with the teacher online, if the
    teacher is at hand (in the release, or by --teacher); as many random real images with the same kind of labels and
    with hard ones; as many random images as fit in the bytes of the set; all training images, the upper bound, and for
    no more images than students of the set see

Accuracy is that of the last epoch, with the standard deviation over the seeds. A run that was stopped goes on when the
same command is given again, and one with more seeds, rows or networks trains what is missing. DCPIPE_WORKERS trains
students side by side. In a workspace, dvc metrics show, dvc exp show and dvc plots show have the rows.

    dcpipe judge digits-score@v1.0.0 --data digits
    dcpipe judge data/release --students resnet18,mobilenet_v2

The rows that --rows may name are uncompressed, online, hard, random, random_hard, equal_bytes, equal_bytes_soft,
all_images, all_images_at_compute, and plain (no augmentation, for DD-Ranking's augmentation-robust score; only if it is
named). The results are written as JSON, CSV, Markdown and one HTML page.
"""
COMPARE = """\
Show judgements of the same images side by side: every row with its difference to the first set over the seeds that
both have, and the p-value of a paired t-test.

    dcpipe compare judged/digits-score-v1.0.0 judged/digits-edc-v1.0.0 --out compared.html
"""
PUBLISH = """\
Create the git tag NAME@vX.Y.Z, where NAME is release.name in params.yaml. Before that, git must be clean, `dvc status`
must be empty and the tag must not exist. Then data/release is copied to the default DVC remote. If there is none, the
one of --remote is set up, or else a local folder (DCPIPE_REMOTE, or ~/.local/share/dcpipe/remote). Whoever pulls the
tag finds the remote in .dvc/config, so that file is committed before the tag is made; this is said before it is done.
The tag itself is not pushed; the last line of the output shows the command for it.

The other stages are not copied: the source images may be large, and their licence may forbid it. With --with-stages
they are, so that others can continue from them after `dvc pull`; the bytes of each stage and the licence are printed
first.
"""
PULL = """\
Fetch data/release at a tag through DVC and verify it. `dvc get REPO data/release --rev TAG` fetches the same files. In
Python, `dcpipe.load("NAME@vX.Y.Z", repo=...)` does this with a cache (DCPIPE_CACHE, or ~/.cache/dcpipe).

A release that was copied into a bucket, a dataset repository of Hugging Face or a web server is pulled by the URL of
its folder, without Git and DVC:

    dcpipe pull s3://bucket/digits
    dcpipe pull hf://datasets/user/name --out digits

An interrupted download of a URL continues when the command is run again.
"""
EXPORT = """\
Write a release for other code, in one of these formats:

    folder      FOLDER/00000_tench/00000.png and so on, which ImageFolder of torchvision reads: sorted folders are in
                label order (class names alone where they sort so), files are ranks in the class; classes.json and,
                for soft labels, labels.safetensors: logits fp16 [image, view, class] with the box and flip of every
                view
    parquet     what `datasets.load_dataset(FOLDER)` of Hugging Face reads: images and labels, and croissant.json,
                which describes them; --logits adds the same logits, boxes and flips as columns, which are large
    ddranking   images.pt, normalised, and labels.pt, the mean logits of each image (its class with --images-only),
                sorted by class as DD-Ranking expects
"""
IMPORT = """\
Turn the soft labels that SRe2L, LPLD, G-VBSM or EDC stored into a release that `dcpipe.load(OUT)` opens:

    dcpipe import-labels FKD_soft_label/ syn_imagenet/ srel-10 --codec lowrank_int8 --ratio 30

IMAGES is the ImageFolder that was labelled; its sorted folders and files define the dataset index. Crops, flips and
CutMix boxes are preserved, so students see what the teacher saw, in batches of any size. Files may contain only tensors
and plain numbers, and no code in them is run. The k-th time an image appears is its view k; K is the smallest number of
times that any image appears.

SRe2L's batches do not say which images they show, so the sampler is reconstructed from --seed. The only sign of success
is how often labels agree with the classes of their images, which is printed together with chance.

The budget applies to the labels. The parameters of the views come on top and are listed separately. After an
interruption, run the command again to continue (work is in DCPIPE_SCRATCH, or .dcpipe/scratch, and takes at most two
copies of the fp16 logits).
"""
COMPLETION = """\
Print a script by which a shell completes commands, options, files, and the names of presets and studies:

    dcpipe completion bash >> ~/.bash_completion
    dcpipe completion zsh > ~/.zsh/completions/_dcpipe            a folder of fpath
    dcpipe completion fish > ~/.config/fish/completions/dcpipe.fish
"""
CLEAN = """\
Delete the unfinished work of stages that were killed or changed from the scratch folder (DCPIPE_SCRATCH, or
.dcpipe/scratch), and print its size. Finished artifacts are not touched, and neither is the work of a running stage.
"""

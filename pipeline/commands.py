"""The command line: every verb's name, help and arguments."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline import picture_verbs, retrain_verbs, run_verbs, verbs
from pipeline.terminal import Terminal
from pipeline.verbs import DEFAULT_STORAGE

Arguments = tuple[tuple[tuple[str, ...], dict[str, Any]], ...]


@dataclass(frozen=True, kw_only=True)
class Verb:
    help: str
    act: Callable[[argparse.Namespace, Terminal], Any]
    arguments: Arguments = ()


JOB: Arguments = (
    (("job",), {"help": "a job file, such as jobs/quickstart.yaml"}),
    (("--set",), {"action": "append", "default": [], "metavar": "KEY=VALUE",
                  "help": "another value for a key, such as train.lr=1.0e-4"}),
)  # fmt: skip
STORAGE: Arguments = (
    (("--storage",), {"metavar": "URL", "help": "where to look; default $DRAW_STORAGE, else "
                      f"{DEFAULT_STORAGE}"}),
)  # fmt: skip
RUN: Arguments = ((("run",), {"help": "a run's id, or a unique beginning of it"}), *STORAGE)
DATASET: Arguments = (
    (("dataset",), {"help": "mnist for the newest, or mnist/<id>"}),
    *STORAGE,
)
VERBS = {
    "run": Verb(
        help="run a job, or its search, to its end, from wherever it was cut off",
        act=verbs.run,
        arguments=(*JOB, (("--without-ray",), {"action": "store_true", "help":
                   "one worker in this process"})),
    ),
    "check": Verb(help="read a job file and start nothing", act=verbs.check, arguments=JOB),
    "plan": Verb(
        help="what a job would take, from a few steps", act=verbs.plan, arguments=JOB
    ),
    "prepare": Verb(help="make a job's data set only", act=verbs.prepare, arguments=JOB),
    "show": Verb(
        help="print a data set's manifest and write a sheet of samples",
        act=verbs.show,
        arguments=(*DATASET, (("--sheet",), {"metavar": "FILE", "help": "where to write it"})),
    ),
    "verify": Verb(help="re-read every shard of a data set", act=verbs.verify, arguments=DATASET),
    "evaluate": Verb(
        help="the bound of a finished run on a whole split",
        act=run_verbs.evaluate,
        arguments=(*RUN, (("--split",), {"default": "test", "choices": ("train", "val", "test")})),
    ),
    "measure": Verb(
        help="what else a finished run is: the importance-weighted bound, confusions, nearest "
        "training images, classes of its samples, another run beside it; on its page, too",
        act=run_verbs.measure,
        arguments=(
            *RUN,
            (("names",), {"nargs": "*", "metavar": "MEASURE", "help":
                          "importance, thousand, answers, further, against, classes, nearest, "
                          "reach or text; default all that fit"}),
            (("--split",), {"default": "test", "choices": ("train", "val", "test"),
                            "help": "importance, answers, further, text: of which split"}),
            (("--further",), {"type": int, "metavar": "N", "help":
                              "further: answers to N pictures more than the split has, of the same "
                              "digits in other places"}),
            (("--first",), {"type": int, "metavar": "N", "help":
                            "importance, answers, text: of the first N examples of the split"}),
            (("--samples",), {"type": int, "default": 50, "metavar": "K",
                              "help": "importance: draws of the latents for each example"}),
            (("--count",), {"type": int, "default": 10_000, "help": "classes: of so many samples"}),
            (("--seed",), {"type": int, "default": 0, "help": "of samples"}),
            (("--against",), {"metavar": "RUN", "help": "a run to compare with"}),
            (("--target",), {"type": float, "metavar": "NATS", "help":
                             "reach: how long until the loss is there, by the run's own curve"}),
            (("--classifier",), {"metavar": "RUN", "help":
                                 "classes: a classifier of the same kind of pictures"}),
        ),
    ),
    "sample": Verb(
        help="draw new pictures, or write new text, from a finished run",
        act=run_verbs.sample,
        arguments=(
            *RUN,
            (("--count",), {"type": int, "default": 100,
                            "help": "of pictures or texts; with --primer, of characters"}),
            (("--primer",), {"metavar": "TEXT", "help": "the beginning of a text to go on with"}),
            (("--temperature",), {"type": float, "default": 1.0, "help":
                                  "with --primer: below 1 keeps to what is likely"}),
            (("--seed",), {"type": int, "default": 0}),
            (("--out",), {"metavar": "FOLDER"}),
        ),
    ),
    "results": Verb(
        help="the table of what was reported by others and is reached here",
        act=run_verbs.results,
        arguments=(
            *STORAGE,
            (("--with",), {"dest": "others", "action": "append", "default": [], "metavar": "FILE",
                           "help": "another storage's RESULTS.json, whose runs stand beside"}),
            (("--out",), {"metavar": "FOLDER", "help": "RESULTS.md and RESULTS.json, there too"}),
        ),
    ),
    "pictures": Verb(
        help="draw all pictures that fit a finished run's model, and list them on its page",
        act=picture_verbs.pictures,
        arguments=(
            *RUN,
            (("--beside",), {"metavar": "RUN", "help": "another run of DRAW, such as one without "
                             "attention: both side by side, step by step"}),
            (("--race",), {"action": "append", "default": [], "metavar": "RUN", "help":
                           "another run of the same data: validations of all on one picture"}),
            (("--steps",), {"metavar": "T,T,…", "help": "canvases at these steps, as 4,7,9"}),
            (("--out",), {"metavar": "FOLDER", "help": "write them there, leave the run as it is"}),
        ),
    ),
    "runs": Verb(help="list the runs in a storage", act=run_verbs.runs, arguments=STORAGE),
    "studies": Verb(
        help="list the searches in a storage", act=verbs.studies, arguments=STORAGE
    ),
    "study": Verb(
        help="show a search, write its best trial as a job, its files, or its page again",
        act=verbs.study,
        arguments=(
            (("action",), {"choices": ("show", "best", "export", "compare", "report")}),
            (("study",), {"help": "a study's id, or a unique beginning of it"}),
            *STORAGE,
            (("--out",), {"metavar": "PATH", "help": "best: the job file to write; export: the "
                          "folder"}),
            (("--train",), {"action": "store_true", "help": "best: run the job"}),
            (("--with",), {"dest": "other", "metavar": "STUDY", "help": "compare: the other one"}),
        ),
    ),
    "retrain": Verb(
        help="do the newest tick of a job's schedule: train a challenger and decide on it",
        act=retrain_verbs.retrain,
        arguments=(
            *JOB,
            (("--now",), {"action": "store_true", "help":
                          "a tick outside of the schedule, named by the present minute"}),
            (("--without-ray",), {"action": "store_true", "help": "one worker in this process"}),
        ),
    ),
    "schedule": Verb(
        help="when a job is due next, or its schedule for a scheduler",
        act=retrain_verbs.schedule,
        arguments=(
            (("action",), {"choices": ("next", "render")}),
            *JOB,
            (("--as",), {"dest": "kind", "default": "cron", "help": "render: for which one",
                         "choices": ("kuberay", "kubernetes", "cron", "systemd")}),
        ),
    ),
    "champion": Verb(
        help="who is champion and why; put an earlier one back, hold it, remove old checkpoints",
        act=retrain_verbs.champion,
        arguments=(
            (("action",), {"choices": ("show", "history", "rollback", "pin", "unpin", "prune")}),
            (("name",), {"help": "the champion's name: retrain.champion, else the job's name"}),
            *STORAGE,
            (("--to",), {"type": int, "metavar": "NUMBER", "help":
                         "rollback: the decision whose champion comes back"}),
            (("--why",), {"default": "", "help": "the reason, for the record"}),
            (("--keep",), {"type": int, "default": 4, "help": "prune: the newest runs that keep "
                           "their checkpoints"}),
            (("--delete",), {"action": "store_true", "help": "prune: not only say what would go"}),
        ),
    ),
    "serve": Verb(
        help="serve a storage's pages to this machine's browser, read-only",
        act=verbs.serve,
        arguments=(
            *STORAGE,
            (("--host",), {"default": "127.0.0.1", "help": "another address to listen at: "
                           "everybody who reaches it reads the whole storage"}),
            (("--port",), {"type": int, "default": 8700, "help": "0 for any that is free"}),
        ),
    ),
    "exporter": Verb(
        help="serve Prometheus what a storage says: schedules, champions, studies, runs, sizes",
        act=verbs.exporter,
        arguments=(
            *STORAGE,
            (("--host",), {"default": "127.0.0.1", "help": "another address to listen at: "
                           "everybody who reaches it reads the names of all runs"}),
            (("--port",), {"type": int, "default": 9105, "help": "0 for any that is free"}),
            (("--every",), {"type": float, "default": 60.0, "metavar": "SECONDS", "help":
                            "between two readings of the storage"}),
        ),
    ),
    "report": Verb(help="write a run's page again", act=run_verbs.report, arguments=RUN),
    "doctor": Verb(
        help="try out this machine, its storage and its Ray cluster before a job does",
        act=verbs.doctor,
        arguments=STORAGE,
    ),
    "schema": Verb(help="print the JSON schema of job files", act=verbs.schema),
}  # fmt: skip

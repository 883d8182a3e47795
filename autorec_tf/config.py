"""Every setting of a run: its default, its valid range and its help text."""

import math
import os
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from autorec_tf.presets import GRID, MEMBERS, PRESETS
from autorec_tf.system.errors import UserError

DATA_DIR_VARIABLE = "AUTOREC_DATA_DIR"
MOST_VALUES = 20  # rating values that can have one-hot inputs
ACTIVATION_NAMES = ("identity", "sigmoid", "relu", "tanh", "elu")

Check = tuple[Callable[[Any], bool], str]
AT_LEAST_1: Check = (lambda x: x >= 1, "at least 1")
FRACTION_OR_0: Check = (lambda x: 0 <= x < 1, "at least 0 and less than 1")
LONGEST_WORD = 80  # characters of a value in a message
PLAIN_WORD = re.compile(rf"[\w./+-]{{1,{LONGEST_WORD}}}")  # needs no quotes
MOST = 3e38  # float32 holds no larger number
NOT_NEGATIVE: Check = (lambda x: 0 <= x < MOST, f"0 or more, and below {MOST:g}")
FINITE: Check = (lambda x: abs(x) < 1e308, "a finite number")  # 10**400 in a JSON file is not
POSITIVE: Check = (lambda x: 0 < x < MOST, f"greater than 0, and below {MOST:g}")
FRACTION_0_TO_1: Check = (lambda x: 0 <= x <= 1, "at least 0 and at most 1")
FRACTION: Check = (lambda x: 0 < x < 1, "between 0 and 1, both excluded")
RATE: Check = (lambda x: 0 < x <= 1, "greater than 0 and at most 1")
COLUMNS: Check = (
    lambda x: len(set(names := [name.strip() for name in x.split(",")])) == len(names) in (3, 4)
    and all(names), "three or four different names or positions, separated by commas",
)
PLAIN_NAME: Check = (
    lambda x: x not in (".", "..") and x.isprintable() and not set(x) & set("/\\:")
    and 0 < len(x.encode()) <= 200,
    "a plain folder name of at most 200 bytes, without / \\ or :",
)
FOLD_NAMES: Check = (
    lambda x: len(set(x)) == len(x) and all(PLAIN_NAME[0](f"fold_{name}") for name in x),
    "different file names, without their folder and without .base or .test",
)


def flag(default: Any, text: str, check: Check | None = None, metavar: Any = None,
         choices: Sequence[str] | None = None, recorded: bool = True) -> Any:
    """Return a field of `Config` that has a flag.

    Args:
        default: Value without the flag.
        text: Help text; names the default where `default` alone would not.
        check: Condition of a valid value, and its description.
        metavar: Placeholder of the value in --help.
        choices: Valid values.
        recorded: Whether config.json holds the value; False for paths and devices.
    """
    metadata = dict(text=text, check=check, metavar=metavar, choices=choices, recorded=recorded)
    return field(default=default, metadata=metadata)


def check_value(setting: Field[Any], value: Any) -> None:
    """Raise UserError if `value` is not allowed for `setting`."""
    check, choices, wanted = setting.metadata["check"], setting.metadata["choices"], ""
    if check and not check[0](value):
        wanted = check[1]
    elif choices and not set(value if isinstance(value, tuple) else (value,)) <= set(choices):
        wanted = f"one of {', '.join(choices)}"
    if wanted:
        text = as_typed(value) if isinstance(value, tuple) else reprlib.repr(value)
        raise UserError(f"--{setting.name} {text}: must be {wanted}")


def as_typed(value: Any) -> str:
    """Return a value as it is written after a flag, shortened if it is long."""
    if not isinstance(value, tuple | list):
        text = str(value)
        return text if len(text) <= LONGEST_WORD else reprlib.repr(text)
    words = (word if PLAIN_WORD.fullmatch(word) else reprlib.repr(word) for word in map(str, value))
    return " ".join(words) or "without values"


def point_text(point: Mapping[str, Any]) -> str:
    """Return the settings of a grid point in words."""
    return ", ".join(f"{name} {value:g}" for name, value in point.items())


class Lambdas(NamedTuple):
    """The lambdas of V, D, W (with Y) and the layers between them in equation 2: numbers, or
    variables."""

    V: Any
    D: Any
    W: Any
    inner: Any


def given_or(value: Any, default: Any) -> Any:
    """Return `value`, or `default` if no value was given."""
    return value if value is not None else default


def fixed(value: Any) -> Any:
    """Return a field of `Config` that is recorded like the others but has no flag."""
    return field(default=value, init=False)


def other(value: Any, check: Check | None = None) -> Any:
    """Return a field of `Config` without a flag, whose value differs in earlier versions."""
    return field(default=value, metadata=dict(check=check, choices=None))


NOT_WITH_MEMBERS = ("tune", "validation_ratio", "patience", "score_reconstruction")
FULL_BATCH = ("RProp", "LBFGS")
NOT_MIRRORED = ("tune", "members", "pretrain_epoch")
# Settings without effect on the name of a run over several splits, as in JSON.
UNNAMED: dict[str, Any] = {"num_folds": None, "fold": None, "folds": [], "start_from": None,
                           "start_fingerprint": None, "start_removed": 0}
# The behaviour of earlier versions without these settings, where it is not today's default.
BEFORE: dict[str, Any] = {"cold_rating": "paper", "map_scale": False, "lambda_factor": 1.0,
                          "lbfgs_by_row": False}


@dataclass(frozen=True)
class Config:
    """The settings of one run. Raise `UserError` if a value is out of its range.

    command_line.py derives a flag from each field with a help text, and orders the flags in groups.
    """

    resume: str | None = flag(
        None, "continue the run in this folder from its last checkpoint, with its settings; only "
        "--train_epoch may be larger (default: start a new run)", metavar="FOLDER", recorded=False)
    start_from: str | None = flag(
        None, "train from the parameters of the finished run in this folder, with its settings, on "
        "changed ratings; its training ratings remain training ratings, its test ratings test "
        "ratings (default: train from random parameters)",
        (lambda x: 0 < len(x) and "\0" not in x, "a folder"), "FOLDER")
    preset: str = flag(
        "default", "settings to start from; other flags override them. default: I-AutoRec with the "
        "weighted rule (--regularization); paper: the paper's I-AutoRec, with lambda and learning "
        "rate chosen by validation; seed: the protocol of the earlier TensorFlow 1 program; "
        "fast: the paper's I-AutoRec in 18 epochs; deep: three hidden layers, pre-trained; single: "
        "the most accurate single model; best: a blend of three models, more accurate than single",
        choices=tuple(PRESETS))
    num_splits: int = flag(
        1, "repeat the run on N random splits with consecutive seeds, and report the mean and its "
        "95 %% interval", AT_LEAST_1)
    num_folds: int | None = flag(
        None, "N-fold cross-validation: test on each of N parts of the ratings in turn, and train "
        "on the other parts (default: one random split)", (lambda x: x >= 2, "at least 2"))
    fold: int | None = flag(
        None, "run only this fold of --num_folds, counted from 1 (default: all folds)", AT_LEAST_1)
    folds: tuple[str, ...] = flag(
        (), "run these published folds: NAME.base (or NAME.train) and NAME.test in the folder of "
        "--dataset, as in --dataset ml-100k --folds u1 u2 u3 u4 u5 (default: none)", FOLD_NAMES,
        "NAME")
    tune: tuple[str, ...] = flag(
        (), "choose these settings by a grid search on validation ratings: lambda_value, base_lr, "
        "decay_epoch_step; the grid is in autorec_tf/presets.py; for LBFGS and RProp, lambda_value "
        "is doubled or halved until the best is found (default: none; single: lambda_value, unless "
        "the data is of the size of MovieLens-1M)", metavar="NAME",
        choices=tuple(GRID))
    members: tuple[str, ...] = flag(
        (), "blend these models, with weights learned on validation ratings: item, denoising, "
        "wide, deep, weighted, user, user_one_hot, single, single_user, biases; their settings are "
        "in autorec_tf/presets.py; the same name several times: the mean of several trainings "
        "(default: train one model)", metavar="NAME", choices=tuple(MEMBERS))
    score_reconstruction: bool = flag(
        False, "also report the RMSE of reconstructing the test ratings from themselves: the "
        "measure of the earlier TensorFlow 1 program, which leaks the test ratings")
    dataset: str | None = flag(
        None, "rating data: ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, netflix, synthetic, or "
        "your rating file (default: ml-1m, or synthetic if ml-1m is not on disk and cannot be "
        "downloaded)",
        (lambda x: 0 < len(x) and "\0" not in x, "a dataset's name or a file"), "NAME")
    data_dir: str | None = flag(
        None, "folder with the dataset's files (default: a folder named after the dataset; for "
        f"ml-1m, ${DATA_DIR_VARIABLE} if that is set)", metavar="FOLDER", recorded=False)
    columns: str | None = flag(
        None, "columns of user, item, rating and, optionally, timestamp in your file, separated by "
        "commas: header names, as in userId,movieId,rating, or positions from 1 (default: usual "
        "names in the header, or the first columns of a file without a header)", COLUMNS, "NAMES")
    test_columns: str | None = flag(
        None, "the same for --test_file (default: as --columns)", COLUMNS, "NAMES")
    read_csv: tuple[str, ...] = flag(
        (), "pandas.read_csv options for your file, if they cannot be detected from its first "
        "lines: sep, decimal, thousands, encoding, quotechar, quoting, comment, header, skiprows, "
        "skipinitialspace (default: detected)",
        (lambda x: all("=" in each for each in x), "KEY=VALUE, as in sep=; or decimal=,"),
        "KEY=VALUE")
    duplicates: str = flag(
        "refuse", "the rating to use if your data has several for the same user and item; "
        "refuse: report an error", choices=("refuse", "first", "last", "mean"))
    no_rating: tuple[str, ...] = flag(
        (), "values in the rating column that are not ratings, and are skipped: numbers, and NaN "
        "for missing ratings, as in -1 NaN (default: none)", metavar="VALUE")
    no_id: tuple[str, ...] = flag(
        (), "values in the user or item column that are not ids, whose rows are skipped: texts, "
        "and NaN for missing ids, as in NaN anonymous (default: none)", metavar="VALUE")
    rating_scale: tuple[float, ...] = flag(
        (), "lowest and highest possible rating (default: the scale of the dataset, or the lowest "
        "and highest rating in your file)",
        (lambda x: len(x) in (0, 2) and all(abs(each) < MOST for each in x)
         and list(x) == sorted(set(x)),
         f"two numbers between -{MOST:g} and {MOST:g}, the lower one first"), ("LOW", "HIGH"))
    test_file: str | None = flag(
        None, "file with the test ratings; all ratings of --dataset are then training ratings "
        "(default: none, test ratings are chosen by --split)",
        (lambda x: 0 < len(x) and "\0" not in x, "a file"), "FILE")
    in_both: str = flag(
        "refuse", "the side of a rating whose user and item are in both --dataset and --test_file; "
        "refuse: report an error", choices=("refuse", "train", "test"))
    cold_rating: str | None = flag(
        None, "prediction if the user or the item has no training ratings. paper: 3; mean: the "
        "mean rating, plus the bias of the user or item if that has some (default: paper for a "
        "named dataset, mean for your file)", choices=("paper", "mean"))
    map_scale: bool = flag(
        True, "map the ratings to 1 to 5 for training unless their scale is within 0.5 to 5, so "
        "that results do not depend on their unit; false: never map")
    relevant_rating: float | None = flag(
        None, "lowest rating of a relevant item, for NDCG and recall (default: 4 on a scale of 1 "
        "to 5, and proportionally on other scales)", FINITE)
    ranked_users: int = flag(
        10_000, "largest number of users for NDCG and recall; if there are more, N of them are "
        "sampled", AT_LEAST_1)
    split: str = flag("random", "choice of the test ratings: at random, or the latest by timestamp",
                      choices=("random", "time"))
    timestamp_format: str | None = flag(
        None, "format of the dates for --split time, as in %%d/%%m/%%Y or '%%m/%%d/%%y %%I:%%M "
        "%%p' (default: detected)", (lambda x: "%" in x, "a format of dates, as in %d/%m/%Y"),
        "FORMAT")
    train_ratio: float = flag(0.9, "fraction of the ratings used for training", FRACTION)
    validation_ratio: float = flag(
        0.0, "fraction of the training ratings held out for validation; results are then those of "
        "the epoch with the lowest validation RMSE", FRACTION_OR_0)
    split_seed: int | None = flag(
        None, "seed of the split (default: --random_seed)", NOT_NEGATIVE)
    orientation: str = flag(
        "item", "rows of the rating matrix: items (I-AutoRec) or users (U-AutoRec)",
        choices=("item", "user"))
    hidden_neuron: tuple[int, ...] = flag(
        (500,), "number of hidden units; several numbers, as in 500 250 500, make a deep model",
        (lambda x: len(x) > 0 and min(x) >= 1, "one or more whole numbers, each at least 1"))
    hidden_activation: str = flag(
        "sigmoid", "activation g of the hidden layers", choices=ACTIVATION_NAMES)
    output_activation: str = flag(
        "identity", "activation f of the output layer; sigmoid and tanh are scaled to the rating "
        "scale", choices=ACTIVATION_NAMES)
    input_encoding: str = flag(
        "rating", "rating: the input vector of a rating is its value times the vector of its "
        f"column, as in the paper; one_hot: each of the (at most {MOST_VALUES}) rating values of a "
        "column has an additional input vector; auto: one_hot, or rating if there are more values",
        choices=("rating", "one_hot", "auto"))
    input_scale: float = flag(
        0.0, "multiply the inputs of each row by this number / the square root of its number of "
        "ratings, so that rows with many ratings do not saturate the units; 0: the inputs are the "
        "ratings, as in the paper", NOT_NEGATIVE)
    leave_one_out: bool = flag(
        False, "predict each training rating without itself as an input, as test ratings are "
        "predicted; needs one hidden layer without --dropout")
    leave_one_out_slope: str = flag(
        "own", "slope of the activation g by which --leave_one_out corrects a prediction: own: "
        "that of the row; mean: the mean over the rows of the batch, times a number for each row, "
        "which saves three of ten matrix products", choices=("own", "mean"))
    decoder: str = flag(
        "own", "own: each column has its output weights, as in the paper; biased: each row also "
        "has a bias, which helps where ratings are few; svdpp: also, the vectors of the rows that "
        "rated the column are added, as in SVD++; needs one hidden layer and --optimizer_method "
        "LBFGS or RProp", choices=("own", "biased", "svdpp"))
    initial_bias: str = flag(
        "zero", "initial value of the output bias b: 0, or the value for which f returns the mean "
        "training rating; biases: b and the row biases c are fitted to the training ratings, if "
        "the decoder has c and f is the identity (otherwise as mean)",
        choices=("zero", "mean", "biases"))
    mean_in_weights: float = flag(
        0.0, "fraction of the mean training rating that W gives at the beginning, and b the rest; "
        "needs --initial_bias mean and --hidden_activation sigmoid", FRACTION_0_TO_1)
    init_stddev: float = flag(
        0.03, "standard deviation of the truncated normal that V and W are drawn from", POSITIVE)
    lambda_value: float = flag(
        1.0, "regularisation strength: the lambda of equation 2", NOT_NEGATIVE)
    lambda_exponent: float = flag(
        0.0, "exponent of the number of ratings in lambda under the plain rule: for V and W of a "
        "column, lambda is multiplied by (its ratings / the mean of all columns)^this; 0: equation "
        "2", (lambda x: abs(x) <= 2, "between -2 and 2"))
    lambda_factor: float | None = flag(
        None, "factor for the lambdas of --tune, --members and --preset deep and fast under the "
        "plain rule, which were chosen on MovieLens-1M (default: the mean number of ratings of a "
        "column in a mini-batch, relative to MovieLens-1M)", POSITIVE)
    lambda_encoder: float | None = flag(
        None, "lambda of V (default: --lambda_value)", NOT_NEGATIVE)
    lambda_decoder: float | None = flag(
        None, "lambda of W (default: --lambda_value)", NOT_NEGATIVE)
    lambda_one_hot: float | None = flag(
        None, "lambda of the input vectors of rating values, for one-hot inputs (default: the "
        "lambda of V)", NOT_NEGATIVE)
    regularization: str = flag(
        "weighted", "weighted: penalise the weights of a column once for each of its ratings in a "
        "mini-batch; plain: add the whole penalty of the paper's equation 2 to every mini-batch",
        choices=("weighted", "plain"))
    dropout: float = flag(
        0.0, "fraction of the units of each hidden layer dropped in a training step", FRACTION_OR_0)
    input_dropout: float = flag(
        0.0, "fraction of the input ratings dropped in a training step; all ratings are "
        "reconstructed", FRACTION_OR_0)
    train_epoch: int = flag(500, "number of training epochs", AT_LEAST_1)
    batch_size: int = flag(512, "number of rows in a mini-batch", AT_LEAST_1)
    pretrain_epoch: int = flag(
        0, "epochs of greedy layer-wise pre-training of a deep model", NOT_NEGATIVE)
    optimizer_method: str = flag(
        "Adam", "optimiser; RProp and LBFGS take one step per epoch, on all rows at once",
        choices=("Adam", "RMSProp", "RProp", "LBFGS"))
    engine: str = flag(
        "auto", "sparse: compute products of observed ratings only (for the CPU); dense: multiply "
        "whole matrices; auto: the faster one for this machine and data",
        choices=("auto", "dense", "sparse"))
    precision: str = flag(
        "float32", "precision of the dense engine's matrix products; parameters, loss and updates "
        "are always float32", choices=("float32", "bfloat16"))
    grad_clip: bool = flag(
        False, "clip each gradient component to [-5, 5]; the flag without a value means true")
    base_lr: float = flag(
        0.001, "initial learning rate; for RProp the initial step size, not used by LBFGS",
        POSITIVE)
    decay_epoch_step: int = flag(
        50, "multiply the learning rate by --decay_rate every N epochs", AT_LEAST_1)
    decay_rate: float = flag(0.5, "factor of the learning-rate schedule", RATE)
    lr_schedule: str = flag(
        "step", "step: multiply the learning rate by --decay_rate every --decay_epoch_step epochs; "
        "cosine: let it fall from --base_lr to 0 like a cosine, over all epochs",
        choices=("step", "cosine"))
    warmup_epoch: int = flag(
        0, "epochs at the beginning in which the learning rate rises to --base_lr", NOT_NEGATIVE)
    adam_beta_1: float = flag(0.9, "decay rate of Adam's mean of gradients", FRACTION_OR_0)
    adam_beta_2: float = flag(
        0.999, "decay rate of Adam's mean of squared gradients", FRACTION_OR_0)
    average_decay: float = flag(
        0.0, "decay rate of a moving average of the parameters over the steps, as in 0.9, which is "
        "evaluated and saved in place of the parameters; not for RProp and LBFGS; 0: no average",
        FRACTION_OR_0)
    patience: int = flag(
        0, "stop after N epochs without a new lowest validation RMSE; needs --validation_ratio; 0: "
        "never stop early", NOT_NEGATIVE)
    tolerance: float = flag(
        0.0, "stop LBFGS or RProp when ten epochs have lowered the objective by less than this "
        "fraction of it; 0: never stop early", FRACTION_OR_0)
    distribute: str | None = flag(
        None, "mirrored: train on all GPUs of this machine; workers: train on the machines in the "
        "environment variable TF_CONFIG, with one process each (default: train in this process "
        "only)", choices=("mirrored", "workers"), recorded=False)
    random_seed: int = flag(
        1994, "seed of the split, the initial weights, shuffling and dropout", NOT_NEGATIVE)
    display_step: int = flag(
        1, "evaluate and print every N epochs, and after the last one", AT_LEAST_1)
    checkpoint_every: int = flag(
        50, "write a checkpoint for --resume every N epochs, and after the last one", AT_LEAST_1)
    results_dir: str = flag(
        "results", "folder in which run folders are created", metavar="FOLDER", recorded=False)
    run_name: str | None = flag(
        None, "name of the run folder (default: built from the settings and the UTC time)",
        PLAIN_NAME, "NAME")
    comet: str = flag(
        "auto", "online: log to Comet while training; offline: write an archive for a later "
        "upload; off: do not use Comet; auto: online if an API key is configured, else offline",
        choices=("auto", "online", "offline", "off"))
    tensorboard: bool = flag(
        False, "write TensorBoard summaries to the run folder; the flag without a value means true")

    # Names of the flags or keywords that the user gave, if known.
    given: tuple[str, ...] | None = field(default=None, compare=False,
                                          metadata=dict(recorded=False))
    member_settings: tuple[dict[str, Any], ...] = ()  # the resolved settings of each member

    start_fingerprint: str | None = other(None)  # of the parameters of `start_from`
    start_removed: int = other(0, NOT_NEGATIVE)  # training ratings of its and earlier starts
    grad_clip_limit: float = fixed(5.0)
    adam_epsilon: float = fixed(1e-8)
    rmsprop_decay: float = fixed(0.9)
    rmsprop_epsilon: float = fixed(1e-7)
    rprop_eta_plus: float = fixed(1.2)
    rprop_eta_minus: float = fixed(0.5)
    rprop_delta_min: float = fixed(1e-6)
    rprop_delta_max: float = fixed(50.0)
    lbfgs_memory: int = other(6, AT_LEAST_1)  # pairs of s and y
    lbfgs_by_row: bool = other(True)  # a scale for each row; false in earlier versions
    lbfgs_armijo: float = fixed(1e-4)  # c1 and c2 of the weak Wolfe conditions
    lbfgs_wolfe: float = fixed(0.9)
    lbfgs_max_trials: int = fixed(25)  # evaluations in a line search
    lbfgs_min_cosine: float = fixed(1e-7)  # between s and y: float32's rounding

    def __post_init__(self) -> None:
        if isinstance(self.hidden_neuron, int):  # Config(hidden_neuron=500), for convenience
            object.__setattr__(self, "hidden_neuron", (self.hidden_neuron,))
        for each in fields(self):
            if "check" in each.metadata and (value := getattr(self, each.name)) is not None:
                check_value(each, value)
        self.check_combinations()

    def check_combinations(self) -> None:
        """Raise UserError if a setting would silently have no effect beside another one."""
        sizes = self.hidden_neuron
        symmetric = len(sizes) > 1 and len(sizes) % 2 and sizes == sizes[::-1]
        if self.pretrain_epoch and not symmetric:
            raise UserError(f"--pretrain_epoch {self.pretrain_epoch} needs hidden layers that are "
                            "symmetric around one in the middle, as in --hidden_neuron 500 250 500")
        excluded = [name for name in NOT_WITH_MEMBERS if getattr(self, name)]
        if self.members and excluded:
            raise UserError(f"--{excluded[0]} cannot be combined with --members: members have "
                            "their own settings and validation ratings. Leave one of them out.")
        if self.members and self.tensorboard:
            raise UserError("--tensorboard cannot be combined with --members: the epochs of "
                            "members are not recorded. Leave one of them out.")
        if self.grad_clip and self.optimizer_method in FULL_BATCH:
            raise UserError("--grad_clip cannot be combined with --optimizer_method "
                            f"{self.optimizer_method}: RProp uses only the sign of the gradient, "
                            "and L-BFGS needs the exact gradient. Leave one of them out.")
        if self.average_decay and self.optimizer_method in FULL_BATCH:
            raise UserError(f"--average_decay {self.average_decay:g} cannot be combined with "
                            f"--optimizer_method {self.optimizer_method}, whose steps have no "
                            "noise of mini-batches. Use --average_decay 0.")
        if set(self.tune) - {"lambda_value"} and self.optimizer_method in FULL_BATCH:
            raise UserError("--tune base_lr and decay_epoch_step cannot be combined with "
                            f"--optimizer_method {self.optimizer_method}: their grid is for "
                            "mini-batches. Leave one of them out.")
        if self.lambda_exponent and self.regularization != "plain":
            raise UserError(f"--lambda_exponent {self.lambda_exponent:g} needs --regularization "
                            "plain: the weighted rule already follows the number of ratings. Add "
                            "--regularization plain, or --lambda_exponent 0.")
        if self.lambda_one_hot is not None and self.input_encoding == "rating":
            raise UserError(f"--lambda_one_hot {self.lambda_one_hot:g} needs --input_encoding "
                            "one_hot")
        if self.leave_one_out and (len(sizes) > 1 or self.dropout):
            other = "--dropout" if self.dropout else "several hidden layers"
            raise UserError(f"--leave_one_out cannot be combined with {other}")
        has_mean = self.initial_bias == "mean" and self.hidden_activation == "sigmoid"
        if self.mean_in_weights and not has_mean:
            raise UserError(f"--mean_in_weights {self.mean_in_weights:g} needs --initial_bias mean "
                            "and --hidden_activation sigmoid. Use --mean_in_weights 0 with others.")
        if self.decoder == "svdpp" and len(sizes) > 1:
            raise UserError("--decoder svdpp cannot be combined with several hidden layers")
        if self.decoder == "svdpp" and self.optimizer_method not in FULL_BATCH:
            raise UserError("--decoder svdpp needs --optimizer_method LBFGS or RProp: it computes "
                            "sums over all rows")
        self.check_schedule()
        if self.patience and not self.validation_ratio:
            raise UserError(f"--patience {self.patience} needs --validation_ratio")
        if self.tolerance and self.optimizer_method not in FULL_BATCH:
            raise UserError(f"--tolerance {self.tolerance:g} needs --optimizer_method LBFGS or "
                            "RProp: a mini-batch does not know the whole objective")
        self.check_splits()
        if self.distribute == "mirrored":
            self.check_mirrored()

    def check_schedule(self) -> None:
        """Raise UserError for a setting without effect under the schedule of learning rates."""
        if self.lr_schedule == "step":
            return
        if self.optimizer_method in FULL_BATCH:
            raise UserError("--lr_schedule cosine cannot be combined with --optimizer_method "
                            f"{self.optimizer_method}, which has no schedule. Use --lr_schedule "
                            "step.")
        for name in ("decay_epoch_step", "decay_rate"):
            if name in (*(self.given or ()), *self.tune):
                raise UserError(f"--{name} has no effect with --lr_schedule cosine. Leave it out, "
                                "or use --lr_schedule step.")

    def ways_to_split(self) -> list[str]:
        """Return the flags that choose the test ratings, without ratios and seeds."""
        ways = {
            f"--num_splits {self.num_splits}": self.num_splits > 1,
            f"--num_folds {self.num_folds}": self.num_folds,
            f"--folds {' '.join(self.folds)}": self.folds,
            f"--test_file {self.test_file}": self.test_file,
            "--split time": self.split == "time",
        }
        return [way for way, is_used in ways.items() if is_used]

    def check_splits(self) -> None:
        """Raise UserError if several flags choose the test ratings, or a fold does not exist."""
        if len(ways := self.ways_to_split()) > 1:
            raise UserError(f"{ways[0]} cannot be combined with {ways[1]}: both choose the test "
                            "ratings. Leave one of them out.")
        if self.fold and not self.num_folds:
            raise UserError(f"--fold {self.fold} needs --num_folds")
        if self.fold and self.num_folds and self.fold > self.num_folds:
            raise UserError(f"--fold {self.fold}: must be at most --num_folds {self.num_folds}")
        if self.folds and not self.dataset:
            raise UserError(f"--folds {' '.join(self.folds)} needs --dataset: ml-100k, or the "
                            "folder with the files of the folds")

    def check_mirrored(self) -> None:
        """Raise UserError for a setting that --distribute mirrored does not support."""
        excluded = [f"--{name}" for name in NOT_MIRRORED if getattr(self, name)]
        if self.engine == "sparse":
            excluded.append("--engine sparse")
        if self.optimizer_method in FULL_BATCH:
            excluded.append(f"--optimizer_method {self.optimizer_method}")
        if self.leave_one_out and self.leave_one_out_slope == "mean":  # no replica has all rows
            excluded.append("--leave_one_out_slope mean")
        if self.is_repeated:
            excluded += self.ways_to_split()
        if excluded:
            raise UserError(f"{excluded[0]} cannot be combined with --distribute mirrored, which "
                            "trains one model by mini-batches and the dense engine. Leave one of "
                            "them out.")

    @property
    def is_repeated(self) -> bool:
        """Whether this run repeats training over several splits or folds."""
        over_folds = bool(self.num_folds and not self.fold) or len(self.folds) > 1
        return self.num_splits > 1 or over_folds

    @property
    def seed_of_split(self) -> int:
        return given_or(self.split_seed, self.random_seed)

    def lambdas(self, lambda_value: Any = None) -> Lambdas:
        """Return the lambdas, perhaps with another `lambda_value`: a number or a variable."""
        value = given_or(lambda_value, self.lambda_value)
        encoder = given_or(self.lambda_encoder, value)
        return Lambdas(encoder, given_or(self.lambda_one_hot, encoder),
                       given_or(self.lambda_decoder, value), value)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings except paths and devices, which belong to a machine and not to the
        experiment."""
        hidden = {f.name for f in fields(self) if not f.metadata.get("recorded", True)}
        return {name: value for name, value in asdict(self).items() if name not in hidden}

    @classmethod
    def from_dict(cls, content: dict[str, Any], **others: Any) -> "Config":
        """Return the settings in a run's record.

        Args:
            content: Result of `to_dict`, also after JSON, and possibly of an earlier version: a
                setting that is missing has its value in `BEFORE`, or its default.
            **others: Settings that override `content`.

        Raises:
            UserError: A value has the wrong type or is out of range, or a constant differs from
                that of this version.
        """
        content = BEFORE | content
        hints, settings = setting_types(), dict(others)
        for f in fields(cls):
            if f.name in settings or f.name not in content:
                continue
            value = as_tuples(content[f.name])
            if not is_of(value, hints[f.name]):
                raise UserError(f"{f.name} {reprlib.repr(content[f.name])} is not a valid "
                                "value")
            if f.init:
                settings[f.name] = value
            elif value != f.default:
                raise UserError(f"{f.name} is {reprlib.repr(value)}, but {f.default!r} in "
                                "this version")
        return cls(**settings)

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of `epoch`, counted from 1. The cosine: Loshchilov and Hutter,
        "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5."""
        if epoch <= self.warmup_epoch:
            return self.base_lr * epoch / (self.warmup_epoch + 1)
        if self.lr_schedule == "cosine":
            done = (epoch - 1 - self.warmup_epoch) / (self.train_epoch - self.warmup_epoch)
            return self.base_lr * (1 + math.cos(math.pi * done)) / 2
        return self.base_lr * self.decay_rate ** ((epoch - 1) // self.decay_epoch_step)

    def ratings_folder(self) -> str:
        """Return the folder of the ratings: `data_dir`, or for ml-1m the one in the environment
        variable, or the one named after the dataset."""
        name = self.dataset or "ml-1m"
        from_environment = os.environ.get(DATA_DIR_VARIABLE) if name == "ml-1m" else None
        return self.data_dir or from_environment or name


@cache  # a tenth of a second for the settings of a blend's members
def setting_types() -> dict[str, Any]:
    """Return the type of each setting by name."""
    return get_type_hints(Config)


def as_tuples(value: Any) -> Any:
    """Return a value from JSON with tuples in place of lists, as in `Config`."""
    if isinstance(value, dict):
        return {name: as_tuples(each) for name, each in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def is_of(value: Any, hint: Any) -> bool:
    """Return whether `value` has the type `hint`, which must be one that `Config` uses."""
    if get_origin(hint) is dict:  # settings by name
        types = setting_types()
        hints = {f.name: types[f.name] for f in flag_fields()}
        return isinstance(value, dict) and all(
            name in hints and is_of(each, hints[name]) for name, each in value.items()
        )
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(is_of(x, get_args(hint)[0]) for x in value)
    if get_args(hint):  # a union
        return any(is_of(value, each) for each in get_args(hint))
    return type(value) is hint or hint is float and type(value) is int


def flag_fields() -> list:
    """Return the fields of `Config` that have a flag."""
    return [f for f in fields(Config) if f.metadata.get("text")]

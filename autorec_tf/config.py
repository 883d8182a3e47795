"""Every hyper-parameter, once: its default, its range and its help."""

import math
import os
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args, get_origin, get_type_hints

from autorec_tf.presets import GRID, MEMBERS, PRESETS
from autorec_tf.system.errors import UserError

DATA_DIR_VARIABLE = "AUTOREC_DATA_DIR"
MOST_VALUES = 20  # that --input_encoding one_hot takes
ACTIVATION_NAMES = ("identity", "sigmoid", "relu", "tanh", "elu")

Check = tuple[Callable[[Any], bool], str]
AT_LEAST_1: Check = (lambda x: x >= 1, "at least 1")
SHARE: Check = (lambda x: 0 <= x < 1, "at least 0 and less than 1")
NOT_NEGATIVE: Check = (lambda x: 0 <= x < math.inf, "0 or more")
FINITE: Check = (lambda x: abs(x) < 1e308, "a number")  # which 10**400 of a JSON file is not
POSITIVE: Check = (lambda x: 0 < x < math.inf, "greater than 0")
FRACTION: Check = (lambda x: 0 < x < 1, "between 0 and 1, both excluded")
RATE: Check = (lambda x: 0 < x <= 1, "greater than 0 and at most 1")
COLUMNS: Check = (
    lambda x: len(set(names := [name.strip() for name in x.split(",")])) == len(names) in (3, 4)
    and all(names), "three or four different names or numbers, with commas between them",
)
PLAIN_NAME: Check = (
    lambda x: x not in (".", "..") and x.isprintable() and not set(x) & set("/\\:")
    and 0 < len(x.encode()) <= 200,
    "a plain folder name, of at most 200 bytes and without / \\ or :",
)
FOLD_NAMES: Check = (
    lambda x: len(set(x)) == len(x) and all(PLAIN_NAME[0](f"fold_{name}") for name in x),
    "different names of files, without .base and .test and their folder",
)


def flag(default: Any, group: str, text: str, check: Check | None = None,
         choices: Sequence[str] | None = None, recorded: bool = True) -> Any:
    """Return a field of `Config` with a flag; not `recorded` is where a run is, and not what."""
    metadata = dict(group=group, text=text, check=check, choices=choices, recorded=recorded)
    return field(default=default, metadata=metadata)


def fixed(value: Any) -> Any:
    """Return a field of `Config` that is recorded like the others and has no flag."""
    return field(default=value, init=False)


NOT_WITH_MEMBERS = ("tune", "validation_ratio", "patience", "score_reconstruction")
FULL_BATCH = ("RProp", "LBFGS")
NOT_DISTRIBUTED = ("tune", "members")
NO_FOLDS: dict[str, Any] = {"num_folds": None, "fold": None, "folds": []}  # as JSON has them
# What a version did that did not have these settings, where that is not the default.
BEFORE: dict[str, Any] = {"cold_rating": "paper", "map_scale": False, "lambda_factor": 1.0}


@dataclass(frozen=True)
class Config:
    """One run's settings. Raises `UserError` if a value is out of its range."""

    resume: str | None = flag(
        None, "experiment", "go on with the run in this folder, from its last checkpoint; its "
        "settings are kept, but --train_epoch may grow", recorded=False)
    preset: str = flag(
        "default", "experiment", "settings to start from, which other flags override: paper (its "
        "I-AutoRec, lambda and learning rate chosen by validation), seed (the earlier program's "
        "protocol), single (one model, the most accurate there is), best (several models, blended)",
        choices=tuple(PRESETS))
    num_splits: int = flag(1, "experiment", "repeat the run with as many consecutive seeds, and "
                           "report mean and 95 %% interval", AT_LEAST_1)
    num_folds: int | None = flag(
        None, "experiment", "cut the ratings into as many parts, and repeat the run with each of "
        "them for testing and the others for training, so that each rating is tested once "
        "(default: none)", (lambda x: x >= 2, "at least 2"))
    fold: int | None = flag(
        None, "experiment", "run this one of --num_folds alone, from 1 (default: all)", AT_LEAST_1)
    folds: tuple[str, ...] = flag(
        (), "experiment", "repeat the run with each of these published folds: NAME.base (or "
        "NAME.train) and NAME.test in the folder of --dataset, as in --dataset ml-100k --folds u1 "
        "u2 u3 u4 u5", FOLD_NAMES)
    tune: tuple[str, ...] = flag(
        (), "experiment", "settings to choose from their grid (config.py) by validation ratings: "
        "lambda_value, base_lr, decay_epoch_step", choices=tuple(GRID))
    members: tuple[str, ...] = flag(
        (), "experiment", "models (config.py) to blend with weights learned on validation ratings: "
        "item, denoising, wide, deep, weighted, user, user_one_hot, single", choices=tuple(MEMBERS))
    score_reconstruction: bool = flag(
        False, "experiment", "score the reconstruction of test ratings given as input, too: the "
        "earlier program's measure, which leaks")
    dataset: str | None = flag(
        None, "data", "which ratings to train on: ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, "
        "netflix, synthetic, or a file of ratings; if not given, ml-1m, or the built-in synthetic "
        "stand-in where MovieLens-1M is neither on disk nor to be downloaded",
        (lambda x: 0 < len(x) and "\0" not in x, "a dataset's name or a file"))
    data_dir: str | None = flag(
        None, "data", "folder of the dataset's files (default: one of the dataset's name; for "
        f"ml-1m, ${DATA_DIR_VARIABLE} if that is set)", recorded=False)
    columns: str | None = flag(
        None, "data", "user, item, rating and perhaps timestamp of a file: names of its header, or "
        "positions from 1, as in userId,movieId,rating (default: what its header says, or the "
        "first)", COLUMNS)
    test_columns: str | None = flag(
        None, "data", "the same of --test_file (default: as --columns)", COLUMNS)
    read_csv: tuple[str, ...] = flag(
        (), "data", "what pandas.read_csv is to be told of a file where its first lines do not "
        "show it, as KEY=VALUE: sep, decimal, thousands, encoding, quotechar, quoting, comment, "
        "header, skiprows, skipinitialspace",
        (lambda x: all("=" in each for each in x), "KEY=VALUE, as in sep=; or decimal=,"))
    duplicates: str = flag(
        "refuse", "data", "which rating counts where a user rates an item more than once in your "
        "own file", choices=("refuse", "first", "last", "mean"))
    no_rating: tuple[str, ...] = flag(
        (), "data", "ratings that mean none and are left out: numbers, and NaN for missing ones, "
        "as in -1 NaN")
    rating_scale: tuple[float, ...] = flag(
        (), "data", "lowest and highest rating there can be, if they are not the dataset's",
        (lambda x: len(x) in (0, 2) and all(map(FINITE[0], x)) and list(x) == sorted(set(x)),
         "two numbers, the lower one first"),
    )
    test_file: str | None = flag(
        None, "data", "file of the test ratings; those of --dataset are all for training (default: "
        "none)", (lambda x: 0 < len(x) and "\0" not in x, "a file"))
    cold_rating: str | None = flag(
        None, "data", "what is predicted where the user or the item has no training rating: 3, as "
        "the paper has it, or the mean of what is known of them (default: paper for a dataset with "
        "a name, mean for a file)", choices=("paper", "mean"))
    map_scale: bool = flag(
        True, "data", "train on 1 to 5 in place of a rating scale that does not lie within 0.5 to "
        "5, so that results do not depend on the unit; false: on the scale as it is")
    relevant_rating: float | None = flag(
        None, "data", "the lowest rating of an item that is relevant to a user, for NDCG and "
        "recall (default: 4 of 1 to 5, and as high on another scale)", FINITE)
    ranked_users: int = flag(
        10_000, "data", "how many users NDCG and recall are of at most, drawn from the seed",
        AT_LEAST_1)
    split: str = flag("random", "data", "which ratings are for testing: random ones, or the latest "
                      "by timestamp", choices=("random", "time"))
    train_ratio: float = flag(0.9, "data", "share of the ratings to train on", FRACTION)
    validation_ratio: float = flag(
        0.0, "data", "share of the training ratings to hold out and choose the epoch by", SHARE)
    split_seed: int | None = flag(
        None, "data", "seed of the split (default: --random_seed)", NOT_NEGATIVE)
    orientation: str = flag("item", "model", "what a row is: item (I-AutoRec) or user (U-AutoRec)",
                            choices=("item", "user"))
    hidden_neuron: tuple[int, ...] = flag(
        (500,), "model", "hidden units; several numbers make a deep model, as in 500 250 500",
        (lambda x: len(x) > 0 and min(x) >= 1, "one or more whole numbers, each at least 1"))
    hidden_activation: str = flag(
        "sigmoid", "model", "g, after every hidden layer", choices=ACTIVATION_NAMES)
    output_activation: str = flag(
        "identity", "model", "f; sigmoid and tanh span the rating scale", choices=ACTIVATION_NAMES)
    input_encoding: str = flag(
        "rating", "model", "rating: a rating times its column's vector is the input, as in the "
        f"paper; one_hot: besides, each of at most {MOST_VALUES} rating values of a column has a "
        "vector of its own (AutoRec.py); auto: one_hot, unless the ratings have more values",
        choices=("rating", "one_hot", "auto"))
    leave_one_out: bool = flag(
        False, "model", "predict each training rating from the row's other ratings, as a test "
        "rating is, and not from itself, too (AutoRec.py); for one hidden layer")
    decoder: str = flag("own", "model", "own: a column's output weights are its own, as in the "
                        "paper; svdpp: besides, a vector of each row that it has a rating of, and "
                        "each row a bias, as in SVD++ (model/decoder.py); for one hidden layer and "
                        "optimisers on all rows at once", choices=("own", "svdpp"))
    initial_bias: str = flag(
        "zero", "model", "where b starts: at 0, or where f gives the mean training rating",
        choices=("zero", "mean"))
    lambda_value: float = flag(1.0, "model", "regularisation strength, lambda", NOT_NEGATIVE)
    lambda_factor: float | None = flag(
        None, "model", "what --tune and --members multiply their plain lambdas by, which were "
        "chosen on MovieLens-1M (default: the ratings of a column in a mini-batch, over those "
        "there)", POSITIVE)
    lambda_encoder: float | None = flag(
        None, "model", "lambda of V alone (default: --lambda_value)", NOT_NEGATIVE)
    lambda_decoder: float | None = flag(
        None, "model", "lambda of W alone (default: --lambda_value)", NOT_NEGATIVE)
    lambda_one_hot: float | None = flag(
        None, "model", "lambda of the rating values' own vectors, where inputs are one_hot "
        "(default: that of V)", NOT_NEGATIVE)
    regularization: str = flag(
        "weighted", "model", "weighted: a column's weights once per rating it has in the batch; "
        "plain: equation 2 of the paper, all weights once a batch", choices=("weighted", "plain"))
    dropout: float = flag(
        0.0, "model", "share of each hidden layer's units left out of a training step", SHARE)
    input_dropout: float = flag(0.0, "model", "share of the input ratings left out of a training "
                                "step; all are reconstructed", SHARE)
    train_epoch: int = flag(500, "training", "number of epochs", AT_LEAST_1)
    batch_size: int = flag(512, "training", "rows in a mini-batch", AT_LEAST_1)
    pretrain_epoch: int = flag(
        0, "training", "epochs of greedy layer-wise pre-training of a deep model", NOT_NEGATIVE)
    optimizer_method: str = flag(
        "Adam", "training", "optimiser; RProp and LBFGS take one step an epoch, on all rows at "
        "once", choices=("Adam", "RMSProp", "RProp", "LBFGS"))
    engine: str = flag(
        "auto", "training", "sparse: products of observed ratings only, for the CPU; dense: whole "
        "matrices; auto: whichever is faster here", choices=("auto", "dense", "sparse"))
    precision: str = flag("float32", "training", "of the dense engine's products; parameters, loss "
                          "and updates are float32 always", choices=("float32", "bfloat16"))
    grad_clip: bool = flag(
        False, "training", "clip each gradient component to [-5, 5]; alone, it means true")
    base_lr: float = flag(0.001, "training", "learning rate of the first epochs", POSITIVE)
    decay_epoch_step: int = flag(
        50, "training", "epochs between two steps of the learning rate", AT_LEAST_1)
    decay_rate: float = flag(0.5, "training", "factor of the learning rate at each step", RATE)
    patience: int = flag(0, "training", "with --validation_ratio: stop after N epochs "
                         "without a new lowest validation RMSE; 0: never", NOT_NEGATIVE)
    distribute: str | None = flag(
        None, "training", "mirrored: on all GPUs of this machine; workers: on the machines in the "
        "environment variable TF_CONFIG, one process each (default: this process alone)",
        choices=("mirrored", "workers"), recorded=False)
    random_seed: int = flag(
        1994, "training", "seed of split, initialisation and shuffling", NOT_NEGATIVE)
    display_step: int = flag(
        1, "output", "evaluate and print every N epochs, and after the last", AT_LEAST_1)
    checkpoint_every: int = flag(
        50, "output", "keep what --resume goes on from every so many epochs, and after the last",
        AT_LEAST_1)
    results_dir: str = flag("results", "output", "where run folders are made", recorded=False)
    run_name: str | None = flag(
        None, "output", "name of the run folder (default: made of the settings and UTC time)",
        PLAIN_NAME)
    comet: str = flag(
        "auto", "output",
        "Comet experiment; auto: online if an API key is configured, else an offline archive",
        choices=("auto", "online", "offline", "off"))
    tensorboard: bool = flag(False, "output", "write summaries for TensorBoard into the run "
                             "folder; alone, it means true")

    # The names of the flags or keywords given, if known, and each member's resolved settings.
    given: tuple[str, ...] | None = field(default=None, compare=False,
                                          metadata=dict(recorded=False))
    member_settings: tuple[dict[str, Any], ...] = ()

    init_stddev: float = fixed(0.03)  # of the truncated normal that V and W start from
    grad_clip_limit: float = fixed(5.0)
    adam_beta_1: float = fixed(0.9)
    adam_beta_2: float = fixed(0.999)
    adam_epsilon: float = fixed(1e-8)
    rmsprop_decay: float = fixed(0.9)
    rmsprop_epsilon: float = fixed(1e-7)
    rprop_eta_plus: float = fixed(1.2)
    rprop_eta_minus: float = fixed(0.5)
    rprop_delta_min: float = fixed(1e-6)
    rprop_delta_max: float = fixed(50.0)
    lbfgs_memory: int = fixed(10)  # pairs of s and y
    lbfgs_armijo: float = fixed(1e-4)  # c1 and c2 of the weak Wolfe conditions
    lbfgs_wolfe: float = fixed(0.9)
    lbfgs_max_trials: int = fixed(25)  # evaluations in a line search
    lbfgs_min_cosine: float = fixed(1e-7)  # between s and y: float32's rounding

    def __post_init__(self) -> None:
        if isinstance(self.hidden_neuron, int):  # Config(hidden_neuron=500), for convenience
            object.__setattr__(self, "hidden_neuron", (self.hidden_neuron,))
        for each in flag_fields():
            value, allowed = getattr(self, each.name), each.metadata
            if value is None:
                continue
            shown = f"--{each.name} {reprlib.repr(value)}"
            if allowed["check"] and not allowed["check"][0](value):
                raise UserError(f"{shown}: must be {allowed['check'][1]}")
            several = value if isinstance(value, tuple) else (value,)
            if allowed["choices"] and not set(several) <= set(allowed["choices"]):
                raise UserError(f"{shown}: must be one of {', '.join(allowed['choices'])}")
        self.check_combinations()

    def check_combinations(self) -> None:
        """Raise UserError for settings that would silently have no effect together."""
        sizes = self.hidden_neuron
        mirrored = len(sizes) > 1 and len(sizes) % 2 and sizes == sizes[::-1]
        if self.pretrain_epoch and not mirrored:
            raise UserError(f"--pretrain_epoch {self.pretrain_epoch}: layer-wise pre-training "
                            "needs hidden layers that mirror each other around one in the middle, "
                            "as in --hidden_neuron 500 250 500")
        alone = [name for name in NOT_WITH_MEMBERS if getattr(self, name)]
        if self.members and alone:
            raise UserError(f"--{alone[0]} does not go with --members, which have settings of "
                            "their own and hold out ratings for their weights")
        if self.members and self.tensorboard:
            raise UserError("--tensorboard does not go with --members, whose epochs are not kept")
        if self.grad_clip and self.optimizer_method in FULL_BATCH:
            raise UserError(f"--grad_clip does not go with {self.optimizer_method}: RProp uses the "
                            "gradient's sign only, and L-BFGS needs the gradient itself")
        if self.tune and self.optimizer_method in FULL_BATCH:
            raise UserError(f"--tune does not go with --optimizer_method {self.optimizer_method}: "
                            "it tries settings for mini-batches")
        if self.lambda_one_hot is not None and self.input_encoding == "rating":
            raise UserError(f"--lambda_one_hot {self.lambda_one_hot:g} needs --input_encoding "
                            "one_hot")
        if self.leave_one_out and (len(sizes) > 1 or self.dropout):
            what = "--dropout" if self.dropout else "several hidden layers"
            raise UserError(f"--leave_one_out does not go with {what}")
        if self.decoder == "svdpp" and len(sizes) > 1:
            raise UserError("--decoder svdpp does not go with several hidden layers")
        if self.decoder == "svdpp" and self.optimizer_method not in FULL_BATCH:
            raise UserError("--decoder svdpp needs --optimizer_method LBFGS or RProp: it sums over "
                            "all rows")
        if self.patience and not self.validation_ratio:
            raise UserError(f"--patience {self.patience} needs --validation_ratio")
        self.check_splits()
        if self.distribute:
            self.check_distributed()

    def ways_to_split(self) -> list[str]:
        """Return the flags that say which ratings are for testing, but for shares and seeds."""
        ways = {
            f"--num_splits {self.num_splits}": self.num_splits > 1,
            f"--num_folds {self.num_folds}": self.num_folds,
            f"--folds {' '.join(self.folds)}": self.folds,
            f"--test_file {self.test_file}": self.test_file,
            "--split time": self.split == "time",
        }
        return [way for way, used in ways.items() if used]

    def check_splits(self) -> None:
        """Raise UserError unless one flag alone says which ratings are for testing."""
        if len(ways := self.ways_to_split()) > 1:
            raise UserError(f"{ways[0]} does not go with {ways[1]}: each says which ratings are "
                            "for testing, so leave one out")
        if self.fold and not self.fold <= (self.num_folds or 0):
            raise UserError(f"--fold {self.fold} is not one of --num_folds "
                            f"{self.num_folds or '(not given)'}")
        if self.folds and not self.dataset:
            raise UserError(f"--folds {' '.join(self.folds)} needs --dataset: ml-100k, or the "
                            "folder of the files")

    def check_distributed(self) -> None:
        """Raise UserError for what several devices or machines do not do together."""
        alone = [f"--{name}" for name in NOT_DISTRIBUTED if getattr(self, name)]
        mirrored = self.distribute == "mirrored"
        if mirrored and self.engine == "sparse":
            alone.append("--engine sparse")
        if mirrored and self.pretrain_epoch:
            alone.append("--pretrain_epoch")
        if self.optimizer_method in FULL_BATCH:
            alone.append(f"--optimizer_method {self.optimizer_method}")
        if mirrored and self.is_repeated:
            alone += self.ways_to_split()
        dense = " and the dense engine" if mirrored else ""
        if alone:
            raise UserError(f"{alone[0]} does not go with --distribute {self.distribute}, which "
                            f"trains one model by mini-batches{dense}: leave one of them out")

    @property
    def is_repeated(self) -> bool:
        """Whether this is a run over several splits or folds."""
        over_folds = bool(self.num_folds and not self.fold) or len(self.folds) > 1
        return self.num_splits > 1 or over_folds

    @property
    def seed_of_split(self) -> int:
        return self.random_seed if self.split_seed is None else self.split_seed

    @property
    def encoder_lambda(self) -> float:
        return self.lambda_value if self.lambda_encoder is None else self.lambda_encoder

    @property
    def one_hot_lambda(self) -> float:
        return self.encoder_lambda if self.lambda_one_hot is None else self.lambda_one_hot

    @property
    def decoder_lambda(self) -> float:
        return self.lambda_value if self.lambda_decoder is None else self.lambda_decoder

    def to_dict(self) -> dict[str, Any]:
        """Return every setting but the paths, which tell of a machine and not of the experiment."""
        hidden = {f.name for f in fields(self) if not f.metadata.get("recorded", True)}
        return {name: value for name, value in asdict(self).items() if name not in hidden}

    @classmethod
    def from_dict(cls, content: dict[str, Any], **others: Any) -> "Config":
        """Return the settings in `content`, what `to_dict` returned and JSON kept, with `others`
        over them. One that is not there is as in `BEFORE`, or has its default.

        Raise UserError for a value of another type or out of range, and for a constant that this
        version has changed.
        """
        content = BEFORE | content
        hints, settings = get_type_hints(cls), dict(others)
        for f in fields(cls):
            if f.name in settings or f.name not in content:
                continue
            value = as_tuples(content[f.name])
            if not is_of(value, hints[f.name]):
                raise UserError(f"{f.name} is {reprlib.repr(content[f.name])}, which is not "
                                "a value for it")
            if f.init:
                settings[f.name] = value
            elif value != f.default:
                raise UserError(f"{f.name} is {reprlib.repr(value)}, and {f.default!r} in this "
                                "version")
        return cls(**settings)

    def learning_rate(self, epoch: int) -> float:
        """Return the step-decayed learning rate of `epoch`, which counts from 1."""
        return self.base_lr * self.decay_rate ** ((epoch - 1) // self.decay_epoch_step)

    def ratings_folder(self) -> str:
        """Return `--data_dir`, or else ml-1m's of the environment, or the dataset's name."""
        name = self.dataset or "ml-1m"
        set_folder = os.environ.get(DATA_DIR_VARIABLE) if name == "ml-1m" else None
        return self.data_dir or set_folder or name


def as_tuples(value: Any) -> Any:
    """Return `value` as `Config` has it: lists, which JSON has in their place, are tuples."""
    if isinstance(value, dict):
        return {name: as_tuples(each) for name, each in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def is_of(value: Any, hint: Any) -> bool:
    """Return whether `value` is of the type `hint`, one of those that `Config` uses."""
    if get_origin(hint) is dict:  # settings by name
        hints = {f.name: get_type_hints(Config)[f.name] for f in flag_fields()}
        return isinstance(value, dict) and all(
            name in hints and is_of(each, hints[name]) for name, each in value.items()
        )
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(is_of(x, get_args(hint)[0]) for x in value)
    if get_args(hint):  # of a union
        return any(is_of(value, each) for each in get_args(hint))
    return type(value) is hint or hint is float and type(value) is int


def flag_fields() -> list:
    """Return the fields of `Config` that have a flag."""
    return [f for f in fields(Config) if f.metadata.get("group")]

"""The command line: defaults, ranges, help, and what is recorded."""

import json
import re
import shlex
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from autorec_tf.command_line import GROUPS, MOST_USED, parse_arguments
from autorec_tf.config import DATA_DIR_VARIABLE, Config, Lambdas, flag_fields
from autorec_tf.experiments import extend_grid, grid
from autorec_tf.presets import GRID, MEMBERS, PRESETS
from autorec_tf.resolution import (
    adapt_single,
    member_configs,
    over_preset,
    preset_lambdas,
    scale_lambdas,
    split_configs,
)
from tests.facts import assert_names, refused

# What the user's card of a run asks for: it says what is trained where no flag is given.
CARD = {
    "optimizer_method": "Adam", "train_epoch": 500, "base_lr": 0.001, "decay_epoch_step": 50,
    "random_seed": 1994, "batch_size": 512, "hidden_neuron": (500,), "lambda_value": 1.0,
}
# The paper's I-AutoRec and its random 90/10 split: the headline RMSE is compared with its 0.831.
PAPER = {
    "orientation": "item", "hidden_activation": "sigmoid", "output_activation": "identity",
    "split": "random", "train_ratio": 0.9, "input_encoding": "rating", "decoder": "own",
    "leave_one_out": False, "dropout": 0.0, "input_dropout": 0.0, "pretrain_epoch": 0,
}
# What would change or leak ratings without being asked for.
CAUTIOUS = {"duplicates": "refuse", "no_rating": (), "score_reconstruction": False}


def refusal(arguments, capsys):
    """What the command line prints when it refuses `arguments`, as it should: one line."""
    with pytest.raises(SystemExit) as exit:
        parse_arguments(arguments)
    out, err = capsys.readouterr()
    assert exit.value.code == 2
    assert out == ""
    assert re.fullmatch(r"main\.py: error: [^\n]+\n", err)
    return err


# Defaults and values


@pytest.mark.parametrize("wanted", [CARD, PAPER, CAUTIOUS], ids=["card", "paper", "cautious"])
def test_defaults_are_what_the_card_and_the_paper_say(wanted):
    config = Config()
    assert {name: getattr(config, name) for name in wanted} == wanted


def test_without_flags_every_setting_has_its_default():
    assert parse_arguments([]) == Config()


def test_constants_are_those_of_the_earlier_program_and_of_the_help():
    config = Config()
    assert config.init_stddev == 0.03  # the earlier program's
    (clip,) = (f for f in flag_fields() if f.name == "grad_clip")
    assert config.grad_clip_limit == 5.0 and "[-5, 5]" in clip.metadata["text"]


def test_constants_of_rprop_are_its_papers_and_those_of_lbfgs_the_usual_ones():
    config = Config()
    assert (config.rprop_eta_plus, config.rprop_eta_minus) == (1.2, 0.5)
    assert (config.rprop_delta_min, config.rprop_delta_max) == (1e-6, 50.0)
    assert 3 <= config.lbfgs_memory <= 20
    assert (config.lbfgs_armijo, config.lbfgs_wolfe) == (1e-4, 0.9)


@pytest.mark.parametrize(
    "flag, text, value",
    [
        ("dataset", "synthetic", "synthetic"),
        ("dataset", "some/ratings.csv", "some/ratings.csv"),
        ("columns", "who,what,4", "who,what,4"),
        ("columns", "2,3,1,4", "2,3,1,4"),
        ("test_columns", "who, what,4", "who, what,4"),
        ("read_csv", "decimal=,", ("decimal=,",)),
        ("duplicates", "mean", "mean"),
        ("no_rating", "-1", ("-1",)),
        ("test_file", "u1.test", "u1.test"),
        ("split", "time", "time"),
        ("cold_rating", "mean", "mean"),
        ("map_scale", "false", False),
        ("relevant_rating", "-7.5", -7.5),
        ("ranked_users", "100", 100),
        ("num_splits", "5", 5),
        ("score_reconstruction", "true", True),
        ("data_dir", "somewhere", "somewhere"),
        ("train_ratio", "0.75", 0.75),
        ("validation_ratio", "0.1", 0.1),
        ("split_seed", "3", 3),
        ("orientation", "user", "user"),
        ("hidden_neuron", "1", (1,)),
        ("hidden_activation", "tanh", "tanh"),
        ("output_activation", "elu", "elu"),
        ("initial_bias", "mean", "mean"),
        ("mean_in_weights", "0", 0.0),
        ("average_decay", "0.9", 0.9),
        ("lambda_value", "0", 0.0),
        ("lambda_encoder", "0", 0.0),
        ("lambda_decoder", "2", 2.0),
        ("input_encoding", "one_hot", "one_hot"),
        ("dropout", "0.5", 0.5),
        ("input_dropout", "0.2", 0.2),
        ("regularization", "plain", "plain"),
        ("train_epoch", "2", 2),
        ("batch_size", "64", 64),
        ("optimizer_method", "RMSProp", "RMSProp"),
        ("optimizer_method", "RProp", "RProp"),
        ("optimizer_method", "LBFGS", "LBFGS"),
        ("engine", "sparse", "sparse"),
        ("precision", "bfloat16", "bfloat16"),
        ("base_lr", "3e-3", 0.003),
        ("decay_epoch_step", "25", 25),
        ("decay_rate", "1", 1.0),
        ("random_seed", "0", 0),
        ("display_step", "10", 10),
        ("results_dir", "elsewhere", "elsewhere"),
        ("run_name", "my run-1.a", "my run-1.a"),
        ("comet", "off", "off"),
        ("tensorboard", "true", True),
        ("distribute", "workers", "workers"),
    ],
)
def test_a_flag_sets_its_own_setting_and_no_other(flag, text, value):
    config = parse_arguments([f"--{flag}", text])
    assert config == replace(Config(), **{flag: value})
    assert type(getattr(config, flag)) is type(value)
    assert parse_arguments([f"--{flag}={text}"]) == config


@pytest.mark.parametrize(
    "arguments, setting",
    [
        (["--hidden_neuron", "500", "250", "500"], dict(hidden_neuron=(500, 250, 500))),
        (["--hidden_neuron", "7", "--train_epoch", "2"], dict(hidden_neuron=7, train_epoch=2)),
        (["--rating_scale", "-10", "10"], dict(rating_scale=(-10.0, 10.0))),
        (["--tune", "lambda_value"], dict(tune=("lambda_value",))),
        (["--tune", "base_lr", "lambda_value"], dict(tune=("base_lr", "lambda_value"))),
        (["--members", "item", "user"], dict(members=("item", "user"))),
        (["--members", "item", "item"], dict(members=("item", "item"))),
        (
            ["--lambda_one_hot", "0", "--input_encoding", "one_hot"],
            dict(lambda_one_hot=0.0, input_encoding="one_hot"),
        ),
        (
            ["--patience", "3", "--validation_ratio", "0.1"],
            dict(patience=3, validation_ratio=0.1),
        ),
        (
            ["--pretrain_epoch", "3", "--hidden_neuron", "5", "4", "5"],
            dict(pretrain_epoch=3, hidden_neuron=(5, 4, 5)),
        ),
    ],
)
def test_several_values_and_flags_that_belong_together_are_taken(arguments, setting):
    assert parse_arguments(arguments) == replace(Config(), **setting)


def test_one_number_of_hidden_units_is_one_hidden_layer():
    assert Config(hidden_neuron=7) == Config(hidden_neuron=(7,))
    assert Config(hidden_neuron=7).hidden_neuron == (7,)


def test_each_sides_lambda_is_lambda_value_if_it_has_none_of_its_own():
    config = Config(lambda_value=3.0, lambda_encoder=0.0)
    assert config.lambdas() == Lambdas(V=0.0, D=0.0, W=3.0, inner=3.0)
    assert config.lambdas(5.0) == Lambdas(V=0.0, D=0.0, W=5.0, inner=5.0)
    config = Config(lambda_value=3.0, lambda_decoder=2.0)
    assert config.lambdas() == Lambdas(V=3.0, D=3.0, W=2.0, inner=3.0)
    config = Config(lambda_value=3.0, lambda_encoder=2.0, input_encoding="one_hot")
    assert config.lambdas().D == 2.0
    assert replace(config, lambda_one_hot=0.0).lambdas().D == 0.0


# Presets

# What a preset's name promises, but for numbers that were found by trying.
PROMISED = {
    "default": {},
    # Equation 2, with lambda and learning rate chosen by validation.
    "paper": dict(
        regularization="plain", tune=("lambda_value", "base_lr", "decay_epoch_step"),
    ),
    "fast": dict(regularization="plain", tune=(), lr_schedule="cosine", train_epoch=18),
    # The earlier program's protocol.
    "seed": dict(
        orientation="user", train_ratio=0.75, regularization="plain", decay_rate=0.96,
        score_reconstruction=True, tune=(),
    ),
    "deep": dict(hidden_neuron=(500, 250, 500), regularization="plain", pretrain_epoch=60,
                 input_dropout=0.5, lambda_value=0.2, lambda_encoder=25, lambda_decoder=25,
                 base_lr=0.005, decay_epoch_step=20, train_epoch=120),  # as its committed runs
    "single": dict(decoder="svdpp", leave_one_out=True, optimizer_method="LBFGS"),
    "average": dict(members=("single",) * 3),
    "best": {},
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_its_own_values_and_no_other_and_its_name_is_recorded(preset):
    config = parse_arguments(["--preset", preset])
    assert config == replace(Config(), preset=preset, **PRESETS[preset])
    assert config.to_dict()["preset"] == preset
    assert {name: getattr(config, name) for name in PROMISED[preset]} == PROMISED[preset]
    assert bool(config.members) == (preset in ("average", "best"))


@pytest.mark.parametrize(
    "preset, flag, text, value",
    [
        ("paper", "train_epoch", "2", 2),
        ("paper", "regularization", "weighted", "weighted"),
        ("seed", "orientation", "item", "item"),
        ("seed", "score_reconstruction", "false", False),
        ("seed", "random_seed", "7", 7),
        ("single", "leave_one_out", "false", False),
        ("best", "members", "item", ("item",)),
    ],
)
@pytest.mark.parametrize("preset_first", [True, False])
def test_a_flag_overrides_the_preset_and_nothing_else_of_it(
    preset, flag, text, value, preset_first
):
    arguments = [["--preset", preset], [f"--{flag}", text]]
    config = parse_arguments(sum(arguments if preset_first else arguments[::-1], []))
    assert config == replace(parse_arguments(["--preset", preset]), **{flag: value})


@pytest.mark.parametrize(
    "arguments, tuned",
    [
        (["--lambda_value", "40"], ("base_lr", "decay_epoch_step")),
        (["--base_lr", "0.003"], ("lambda_value", "decay_epoch_step")),
        (["--base_lr", "0.003", "--lambda_value", "40", "--decay_epoch_step", "9"], ()),
        (["--lambda_value", "1"], ("base_lr", "decay_epoch_step")),  # although it is the default
        (["--train_epoch", "3"], ("lambda_value", "base_lr", "decay_epoch_step")),
        (["--tune", "lambda_value"], ("lambda_value",)),
    ],
)
def test_a_setting_that_is_given_is_not_tuned(arguments, tuned):
    assert parse_arguments(["--preset", "paper", *arguments]).tune == tuned


@pytest.mark.parametrize(
    "arguments, clip",
    [
        ([], False),
        (["--grad_clip"], True),
        (["--grad_clip", "true"], True),
        (["--grad_clip", "True"], True),
        (["--grad_clip=true"], True),
        (["--grad_clip", "false"], False),
        (["--grad_clip", "False"], False),
        (["--grad_clip=false"], False),
        (["--grad_clip", "--train_epoch", "3"], True),
    ],
)
def test_grad_clip_means_what_it_says(arguments, clip):
    assert parse_arguments(arguments).grad_clip is clip


def test_a_configuration_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Config().train_epoch = 3


# Refusals


@pytest.mark.parametrize(
    "flag, value",
    [
        ("train_epoch", "0"),
        ("train_epoch", "-1"),
        ("train_epoch", "1.5"),
        ("train_epoch", "ten"),
        ("hidden_neuron", "0"),
        ("hidden_neuron", "1.5"),
        ("batch_size", "0"),
        ("num_splits", "0"),
        ("num_folds", "1"),
        ("num_folds", "all"),
        ("fold", "0"),
        ("folds", "a/b"),
        ("folds", ".."),
        ("validation_ratio", "1"),
        ("validation_ratio", "-0.1"),
        ("validation_ratio", "nan"),
        ("dropout", "1"),
        ("dropout", "-0.1"),
        ("input_dropout", "1"),
        ("input_dropout", "nan"),
        ("lambda_encoder", "-1"),
        ("lambda_decoder", "inf"),
        ("lambda_one_hot", "-1"),
        ("input_encoding", "both"),
        ("patience", "-1"),
        ("tolerance", "-0.1"),
        ("tolerance", "1"),
        ("pretrain_epoch", "-1"),
        ("preset", "none"),
        ("members", "both"),
        ("tune", "batch_size"),
        ("hidden_activation", "softmax"),
        ("output_activation", "softmax"),
        ("score_reconstruction", "maybe"),
        ("display_step", "0"),
        ("decay_epoch_step", "0"),
        ("train_ratio", "0"),
        ("train_ratio", "1"),
        ("train_ratio", "1.5"),
        ("train_ratio", "-0.1"),
        ("train_ratio", "nan"),
        ("train_ratio", "inf"),
        ("lambda_value", "-1"),
        ("lambda_value", "nan"),
        ("lambda_value", "inf"),
        ("base_lr", "0"),
        ("base_lr", "-0.001"),
        ("base_lr", "nan"),
        ("base_lr", "inf"),
        ("decay_rate", "0"),
        ("decay_rate", "1.5"),
        ("decay_rate", "nan"),
        ("random_seed", "-1"),
        ("split_seed", "-1"),
        ("dataset", ""),
        ("columns", "1,2"),
        ("columns", "1, 2,2"),
        ("test_columns", "1,2"),
        ("read_csv", "sep"),
        ("duplicates", "median"),
        ("columns", "1,2,2"),
        ("columns", "a,b,"),
        ("columns", "1,2,3,4,5"),
        ("rating_scale", "5"),
        ("rating_scale", "nan"),
        ("split", "latest"),
        ("cold_rating", "median"),
        ("map_scale", "perhaps"),
        ("relevant_rating", "nan"),
        ("ranked_users", "0"),
        ("test_file", ""),
        ("orientation", "both"),
        ("regularization", "none"),
        ("optimizer_method", "SGD"),
        ("engine", "gpu"),
        ("comet", "maybe"),
        ("grad_clip", "maybe"),
        ("tensorboard", "maybe"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line(flag, value, capsys):
    message = refusal([f"--{flag}", value], capsys)
    assert f"--{flag}" in message
    assert value in message


@pytest.mark.parametrize(
    "flag, value, bounds, word",
    [
        ("train_epoch", "0", ["1"], ""),
        ("train_ratio", "1.5", ["0", "1"], "excluded"),
        ("lambda_value", "-1", ["0", "3", "38"], ""),
        ("lambda_value", "1e300", ["0", "3", "38"], ""),
        ("base_lr", "0", ["0", "3", "38"], "greater"),
        ("decay_rate", "1.5", ["0", "1"], "greater"),
    ],
)
def test_a_refusal_says_the_bounds(flag, value, bounds, word, capsys):
    _, _, allowed = refusal([f"--{flag}", value], capsys).partition(f"--{flag} {float(value):g}")
    assert re.findall(r"(?<![\w.])\d+", allowed) == bounds and word in allowed


@pytest.mark.parametrize(
    "flag, allowed",
    [("comet", ("auto", "online", "offline", "off")), ("grad_clip", ("true", "false"))],
)
def test_a_refusal_names_every_choice(flag, allowed, capsys):
    assert_names(refusal([f"--{flag}", "maybe"], capsys), f"--{flag}", "'maybe'", *allowed)


PATIENCE = "--patience 3", "--validation_ratio"
PRETRAINING = "--pretrain_epoch 3", "--hidden_neuron"


@pytest.mark.parametrize(
    "arguments, facts",
    [
        ("--lambda_one_hot 0.3", ("--lambda_one_hot 0.3", "--input_encoding one_hot")),
        ("--leave_one_out --dropout 0.2", ("--leave_one_out", "--dropout")),
        ("--decoder svdpp --optimizer_method LBFGS --hidden_neuron 8 4 8",
         ("--decoder svdpp", "hidden layers")),
        ("--preset single --tune base_lr", ("--tune", "--optimizer_method LBFGS")),
        ("--decoder svdpp", ("--decoder svdpp", "--optimizer_method", "LBFGS", "RProp")),
        ("--lambda_exponent 0.3", ("--lambda_exponent 0.3", "--regularization plain")),
        ("--preset single --distribute mirrored",
         ("--optimizer_method LBFGS", "--distribute mirrored")),
        ("--leave_one_out --hidden_neuron 8 4 8", ("--leave_one_out", "hidden layers")),
        ("--patience 3", PATIENCE),
        ("--tolerance 0.01", ("--tolerance 0.01", "--optimizer_method LBFGS")),
        ("--preset fast --decay_rate 0.5", ("--decay_rate", "--lr_schedule cosine")),
        ("--preset paper --lr_schedule cosine", ("--decay_epoch_step", "--lr_schedule cosine")),
        ("--preset single --lr_schedule cosine",
         ("--lr_schedule cosine", "--optimizer_method LBFGS")),
        ("--preset single --average_decay 0.9",
         ("--average_decay 0.9", "--optimizer_method LBFGS", "--average_decay 0")),
        ("--mean_in_weights 0.5", ("--mean_in_weights 0.5", "--initial_bias mean")),
        ("--preset fast --hidden_activation tanh",
         ("--mean_in_weights 0.7", "--hidden_activation sigmoid", "--mean_in_weights 0")),
        ("--patience 3 --validation_ratio 0", PATIENCE),
        ("--pretrain_epoch 3", PRETRAINING),
        ("--pretrain_epoch 3 --hidden_neuron 8 4", PRETRAINING),
        ("--pretrain_epoch 3 --hidden_neuron 8 4 9", PRETRAINING),
        ("--pretrain_epoch 3 --hidden_neuron 8 4 4 8", PRETRAINING),
        ("--hidden_neuron 8 0 8", ("--hidden_neuron 8 0 8", "1")),
        ("--hidden_neuron", ("--hidden_neuron", "expected")),
        ("--members item both", ("--members", "'both'", "denoising")),
        ("--preset best --tensorboard", ("--tensorboard", "--members")),
        ("--tune lambda_value batch_size", ("--tune", "'batch_size'", "base_lr")),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused_in_one_line(arguments, facts, capsys):
    assert_names(refusal(arguments.split(), capsys), *facts)


@pytest.mark.parametrize(
    "arguments",
    [["--epochs", "3"], ["--train_ep", "3"], ["--hidden", "3"], ["--comet_key=x"], ["stray"],
     ["-9e9"]],
)
def test_unknown_and_abbreviated_flags_are_refused(arguments, capsys):
    assert_names(refusal(arguments, capsys), arguments[0].split("=")[0])


@pytest.mark.parametrize(
    "arguments, meant",
    [("--hidden_neurons 5", "--hidden_neuron"), ("--base-lr 0.1", "--base_lr"),
     ("--learning-rate 1", "--base_lr"), ("--lambda=1", "--lambda_value"),
     ("--preset papr", "paper"), ("--members itm", "item"), ("--optimizer_method lbfg", "LBFGS")],
)
def test_the_flag_or_value_that_is_meant_is_named(arguments, meant, capsys):
    assert refusal(arguments.split(), capsys).split("Did you mean ")[1].startswith(f"{meant}?")


@pytest.mark.parametrize("flag, text, list_", [
    ("hidden_neuron", "[500,250, 500]", "500 250 500"), ("members", "item,user", "item user"),
    ("tune", "(lambda_value;base_lr)", "lambda_value base_lr"), ("rating_scale", "1,5", "1 5")])
def test_a_list_is_shown_as_it_is_written(flag, text, list_, capsys):
    assert_names(refusal([f"--{flag}", text], capsys), f" {list_};")


def test_numbers_with_an_exponent_are_no_flags():
    config = parse_arguments("--rating_scale -1e30 1e3 --no_rating -1e5 -.5".split())
    assert config.rating_scale == (-1e30, 1e3) and config.no_rating == ("-1e5", "-.5")


def test_a_flag_without_its_value_is_refused(capsys):
    assert_names(refusal(["--train_epoch"], capsys), "--train_epoch", "expected")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../run", "a/b", "/run", "run/", "a\\b", "..\\run", "a\0b", "a\nb", "a\x1bb"],
)
def test_a_run_name_cannot_leave_the_results_folder(name, capsys):
    assert_names(refusal(["--run_name", name], capsys), f"--run_name {name!r}", "folder")


@pytest.mark.parametrize(
    "setting, facts",
    [
        (dict(train_epoch=0), ("--train_epoch 0", "1")),
        (dict(orientation="both"), ("--orientation 'both'", "item", "user")),
        (dict(hidden_neuron=0), ("--hidden_neuron 0", "1")),
        (dict(hidden_neuron=()), ("--hidden_neuron without values", "1")),
        (dict(members=("item", "x")), ("--members item x", *MEMBERS)),
        (dict(tune=("x",)), ("--tune x", *GRID)),
        (dict(preset="x"), ("--preset 'x'", *PRESETS)),
        (dict(run_name="../x"), ("--run_name '../x'", "folder")),
    ],
)
def test_a_configuration_made_in_code_is_checked_too(setting, facts):
    with refused(*facts):
        Config(**setting)


# Help


@pytest.fixture
def help_text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit:
        parse_arguments(["--help"])
    assert exit.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_flag_and_its_default(help_text):
    entries = [" ".join(entry.split()) for entry in re.split(r"\n  (?=--)", help_text)]
    for f in flag_fields():
        (entry,) = (e for e in entries if re.match(rf"--{f.name}[ =]", e))
        default = " ".join(map(str, f.default)) if isinstance(f.default, tuple) else f.default
        default = str(default).lower() if isinstance(default, bool) else default
        assert ("(default: " if default in (None, "") else f"(default: {default})") in entry
        assert entry.count("(default: ") == 1


def test_help_is_grouped_and_fits_80_columns(help_text):
    assert all(len(line) <= 80 for line in help_text.splitlines())
    for group in GROUPS:
        assert f"\n{group}:\n" in help_text


def test_help_begins_with_the_settings_that_most_people_need(help_text):
    flags = re.findall(r"^  --(\w+)", help_text, re.MULTILINE)
    assert flags == [*MOST_USED, *(name for names in GROUPS.values() for name in names)]
    assert MOST_USED == ("dataset", "preset", "num_splits", "orientation", "hidden_neuron",
                         "lambda_value", "train_epoch", "resume")


def test_every_setting_is_in_exactly_one_group_of_the_help():
    names = [*MOST_USED, *(name for names in GROUPS.values() for name in names)]
    assert sorted(names) == sorted(f.name for f in flag_fields())


def test_the_examples_in_the_help_are_valid_commands(help_text, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(Config().to_dict()), encoding="utf-8")
    lines = re.findall(r"^  python main\.py(.*)", help_text, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        arguments = shlex.split(line.replace("results/<run>", str(tmp_path)), comments=True)
        assert parse_arguments(arguments).resume == (
            str(tmp_path) if "--resume" in arguments else None)


# What is recorded


def test_every_setting_but_the_paths_is_recorded():
    config = Config(data_dir="someone/data", results_dir="someone/results", run_name="a",
                    hidden_neuron=(5, 4), members=("item", "user"))
    recorded = json.loads(json.dumps(config.to_dict()))
    assert "someone" not in json.dumps(recorded)
    places = {"resume", "data_dir", "results_dir", "distribute", "given"}
    assert set(recorded) == {f.name for f in fields(Config)} - places
    settings = {name: getattr(config, name) for name in recorded}
    assert config.to_dict() == settings
    assert recorded == settings | dict(hidden_neuron=[5, 4], members=["item", "user"], tune=[],
                                       rating_scale=[], read_csv=[], no_rating=[], no_id=[],
                                       folds=[],
                                       member_settings=[])


# The learning rate


@pytest.mark.parametrize(
    "epoch, step, num_decays",
    [
        (1, 50, 0),
        (50, 50, 0),
        (51, 50, 1),
        (100, 50, 1),
        (101, 50, 2),
        (500, 50, 9),
        (1, 1, 0),
        (2, 1, 1),
        (7, 7, 0),
        (8, 7, 1),
        (500, 1000, 0),
    ],
)
def test_the_learning_rate_falls_after_every_step_epochs(epoch, step, num_decays):
    config = Config(base_lr=0.002, decay_epoch_step=step, decay_rate=0.5)
    assert config.learning_rate(epoch) == pytest.approx(0.002 * 0.5**num_decays, rel=1e-15)


def test_a_decay_rate_of_1_keeps_the_learning_rate():
    assert Config(base_lr=0.002, decay_rate=1.0).learning_rate(500) == 0.002


def test_the_cosine_rises_in_the_warm_up_and_falls_to_zero_after_the_last_epoch():
    config = Config(base_lr=0.3, lr_schedule="cosine", warmup_epoch=2, train_epoch=8)
    rates = [config.learning_rate(epoch) for epoch in range(1, 10)]
    cosine = 0.15 + 0.15 * np.cos(np.linspace(0, np.pi, 7))
    assert rates == pytest.approx([0.1, 0.2, *cosine], abs=1e-15)
    assert replace(config, train_epoch=1).learning_rate(1) == pytest.approx(0.1)
    steps = replace(config, lr_schedule="step", decay_epoch_step=4)
    assert [steps.learning_rate(epoch) for epoch in (1, 2, 3, 4, 5)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.3, 0.15])


@pytest.mark.parametrize(
    "other", ["--decay_rate 0.4", "--optimizer_method RProp --average_decay 0"])
def test_the_advice_to_leave_the_cosine_can_be_followed(other):
    arguments = f"--preset fast --lr_schedule step {other}".split()
    assert parse_arguments(arguments).lr_schedule == "step"


# The data folder


@pytest.mark.parametrize(
    "data_dir, variable, folder",
    [
        (None, None, "ml-1m"),
        (None, "", "ml-1m"),
        (None, "from-environment", "from-environment"),
        ("from-flag", "from-environment", "from-flag"),
        ("from-flag", None, "from-flag"),
    ],
)
def test_data_dir_wins_over_the_environment_and_that_over_the_default(
    data_dir, variable, folder, monkeypatch
):
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv("AUTOREC_DATA_DIR", variable)
    assert Config(data_dir=data_dir).ratings_folder() == folder
    other = Config(data_dir=data_dir, dataset="ml-20m").ratings_folder()
    assert other == (data_dir or "ml-20m")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--members", "item", "--tune", "lambda_value"],
        ["--members", "item", "--validation_ratio", "0.1"],
        ["--members", "item", "--score_reconstruction"],
        ["--preset", "best", "--tune", "base_lr"],
        ["--tune", "base_lr", "--base_lr", "0.1"],
        ["--optimizer_method", "LBFGS", "--grad_clip"],
        ["--split", "time", "--test_file", "u1.test"],
        ["--split", "time", "--num_splits", "2"],
        ["--test_file", "u1.test", "--num_splits", "2"],
        ["--num_folds", "5", "--num_splits", "2"],
        ["--num_folds", "5", "--split", "time"],
        ["--num_folds", "5", "--test_file", "u1.test"],
        ["--num_folds", "5", "--dataset", "ml-100k", "--folds", "u1"],
        ["--num_folds", "5", "--distribute", "mirrored"],
        ["--num_folds", "5", "--fold", "6"],
        ["--fold", "1"],
        ["--folds", "u1", "u2"],
        ["--dataset", "ml-100k", "--folds", "u1", "u1"],
        ["--dataset", "ml-100k", "--folds", "u1", "u2", "--num_splits", "2"],
        ["--dataset", "ml-100k", "--folds", "u1", "--test_file", "u1.test"],
        ["--dataset", "ml-100k", "--folds", "u1", "u2", "--distribute", "mirrored"],
        ["--rating_scale", "5", "1"],
        ["--rating_scale", "1", "inf"],
        ["--rating_scale", "-1e307", "1e307"],
    ],
    ids=" ".join,
)
def test_settings_that_would_have_no_effect_together_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        parse_arguments(arguments)
    assert exit.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(hidden_neuron=(50, 25, 50), lambda_value=3, validation_ratio=0.25, patience=3),
        Config(**PRESETS["paper"], preset="paper", lambda_encoder=0.5, dataset="ml-1m"),
    ],
)
def test_a_record_gives_the_settings_again(config):
    record = json.loads(json.dumps(config.to_dict() | {"num_users": 6040}))
    assert Config.from_dict(record) == config
    assert Config.from_dict(record, results_dir="there").results_dir == "there"


def test_a_run_over_folds_is_a_run_of_each_by_the_same_seeds():
    config = Config(num_folds=3, random_seed=4)
    assert config.is_repeated
    runs = split_configs(config)
    assert [(run.fold, run.num_folds, run.run_name) for run in runs] == [
        (1, 3, "fold_1"), (2, 3, "fold_2"), (3, 3, "fold_3")
    ]
    named = split_configs(Config(dataset="ml-100k", folds=("u1", "ua"), random_seed=4))
    assert [(run.folds, run.run_name) for run in named] == [
        (("u1",), "fold_u1"), (("ua",), "fold_ua")
    ]
    for run in (*runs, *named):
        assert not run.is_repeated and (run.random_seed, run.seed_of_split) == (4, 4)
        assert Config.from_dict(json.loads(json.dumps(run.to_dict()))) == run
    splits = split_configs(Config(num_splits=2, random_seed=4, split_seed=9))
    assert [(run.random_seed, run.split_seed, run.run_name) for run in splits] == [
        (4, 9, "split_9"), (5, 10, "split_10")
    ]


def test_a_record_without_a_setting_has_its_default():
    record = Config(dropout=0.5).to_dict()
    del record["dropout"]
    assert Config.from_dict(record) == Config()


def test_a_record_of_before_the_scales_means_what_was_done_then():
    record = {name: value for name, value in Config().to_dict().items()
              if name not in ("cold_rating", "map_scale", "relevant_rating", "ranked_users")}
    config = Config.from_dict(record)
    assert (config.cold_rating, config.map_scale) == ("paper", False)
    later = record | {"cold_rating": "mean", "map_scale": True}
    config = Config.from_dict(later)
    assert (config.cold_rating, config.map_scale) == ("mean", True)


@pytest.mark.parametrize(
    "changed, facts",
    [
        ({"base_lr": "0.001"}, ("base_lr", "'0.001'")),
        ({"train_epoch": 5.0}, ("train_epoch", "5.0")),
        ({"train_epoch": True}, ("train_epoch", "True")),
        ({"hidden_neuron": [500, "x"]}, ("hidden_neuron", "[500, 'x']")),
        ({"grad_clip": 1}, ("grad_clip", "1")),
        ({"orientation": None}, ("orientation", "None")),
        ({"orientation": "rows"}, ("--orientation 'rows'", "item", "user")),
        ({"base_lr": -1.0}, ("--base_lr -1.0", "greater")),
        ({"adam_epsilon": 1e-7}, ("adam_epsilon", "1e-07", "1e-08")),
    ],
)
def test_a_record_that_was_tampered_with_is_refused(changed, facts):
    with refused(*facts):
        Config.from_dict(Config().to_dict() | changed)


def test_plain_lambdas_of_members_are_those_of_the_data():
    config = Config(members=("item", "deep", "weighted"), lambda_factor=0.5)
    item, deep, weighted = member_configs(config)
    assert item.lambda_value == 0.5 * MEMBERS["item"]["lambda_value"]
    assert deep.lambda_value == MEMBERS["deep"]["lambda_value"]  # of the inner layers
    assert deep.lambda_encoder == 0.5 * MEMBERS["deep"]["lambda_encoder"]
    assert deep.lambda_decoder == 0.5 * MEMBERS["deep"]["lambda_decoder"]
    assert weighted.lambda_value == MEMBERS["weighted"]["lambda_value"]
    (single,) = with_members(members=("single",), lambda_factor=0.5)
    preset = over_preset({"preset": "single"})
    assert single == replace(preset, preset="default", lambda_factor=0.5, given=single.given)
    (own,) = member_configs(Config(members=("item",), lambda_factor=0.5, lambda_value=7.0))
    assert own.lambda_value == 7.0
    coded = dict(MEMBERS["item"], input_encoding="one_hot")
    scaled = scale_lambdas(MEMBERS["item"], 0.5) | {"input_encoding": "one_hot"}
    assert scale_lambdas(coded, 0.5) == scaled
    own = scale_lambdas(coded | {"lambda_one_hot": 6.0}, 0.5)
    assert (own["lambda_value"], own["lambda_one_hot"]) == (item.lambda_value, 3.0)
    weighted = dict(MEMBERS["user"], input_encoding="one_hot", lambda_one_hot=0.3)
    assert scale_lambdas(weighted, 0.5) == weighted


def test_plain_lambdas_of_the_preset_deep_are_those_of_its_member():
    (member,) = member_configs(Config(members=("deep",), lambda_factor=0.5))
    own = over_preset({"preset": "deep", "lambda_factor": 0.5})
    names = "lambda_value", "lambda_encoder", "lambda_decoder"
    scaled = replace(own, **preset_lambdas(own))
    assert [getattr(scaled, x) for x in names] == [getattr(member, x) for x in names]
    on_movielens = replace(own, lambda_factor=1.0)
    assert replace(on_movielens, **preset_lambdas(on_movielens)) == on_movielens
    given = over_preset({"preset": "deep", "lambda_factor": 0.5, "lambda_encoder": 7.0})
    assert preset_lambdas(given) == {"lambda_decoder": member.lambda_decoder}
    weighted = over_preset({"preset": "deep", "regularization": "weighted", "lambda_factor": 0.5})
    assert replace(weighted, **preset_lambdas(weighted)) == weighted


def test_the_lambda_of_fast_is_scaled_to_the_data_unless_it_is_given():
    fast = over_preset({"preset": "fast", "lambda_factor": 0.5})
    assert preset_lambdas(fast) == {"lambda_value": 0.5 * PRESETS["fast"]["lambda_value"]}
    assert preset_lambdas(over_preset({"preset": "fast", "lambda_factor": 0.5,
                                       "lambda_value": 7.0})) == {}


def test_the_grid_follows_the_data_and_goes_on_beyond_its_edges():
    config = Config(tune=("lambda_value",), lambda_factor=0.5)
    points = grid(config)
    assert [point["lambda_value"] for point in points] == [15.0, 20.0]
    assert extend_grid(config, points, [0.9, 0.8]) == {"lambda_value": pytest.approx(20 * 4 / 3)}
    assert extend_grid(config, points, [0.8, 0.9]) == {"lambda_value": pytest.approx(15 * 3 / 4)}
    points.append({"lambda_value": 30.0})
    assert extend_grid(config, points, [0.9, 0.8, 0.9]) is None  # the best lies within


def test_on_movielens_1m_the_grid_is_the_one_that_it_was_made_for():
    config = Config(tune=("lambda_value",), lambda_factor=1.0)
    assert grid(config) == [{"lambda_value": 30.0}, {"lambda_value": 40.0}]
    assert extend_grid(config, grid(config), [0.9, 0.8]) is None


def test_a_record_without_a_younger_setting_means_what_its_version_did():
    config = Config.from_dict({})
    assert (config.cold_rating, config.map_scale, config.lambda_factor) == ("paper", False, 1.0)


@pytest.mark.parametrize(
    "name, value", [("relevant_rating", 10**400), ("rating_scale", [1, 10**400])]
)
def test_a_recorded_number_that_no_float_can_be_is_refused(name, value):
    with refused(f"--{name}", "number"):
        Config.from_dict({name: value})


def with_members(**given):
    """Each member's settings, as a run with these flags has them."""
    config = over_preset(given)
    return member_configs(adapt_single(config, {}))


@pytest.mark.parametrize("name, value", [
    ("hidden_neuron", (500,)), ("hidden_neuron", (400,)), ("regularization", "weighted"),
    ("lambda_value", 1.0), ("input_dropout", 0.0), ("train_epoch", 500), ("base_lr", 0.001),
    ("decay_epoch_step", 50), ("orientation", "item"),
])
def test_what_is_given_wins_over_a_member_its_default_too(name, value):
    members = with_members(**{"members": ("wide", "user"), name: value})
    assert [getattr(each, name) for each in members] == [value, value]


def test_a_member_wins_over_the_preset_and_the_preset_over_the_default():
    (wide,) = with_members(preset="paper", members=("wide",), tune=())
    assert wide.train_epoch == MEMBERS["wide"]["train_epoch"] != PRESETS["paper"]["train_epoch"]
    assert wide.hidden_neuron == (1000,)
    (item,) = with_members(preset="seed", members=("item",), score_reconstruction=False)
    assert item.train_ratio == PRESETS["seed"]["train_ratio"] and item.orientation == "item"


def test_a_record_keeps_what_its_members_were_whatever_the_table_says_later(monkeypatch):
    config = over_preset({"members": ("wide", "deep"), "base_lr": 0.001})
    config = replace(adapt_single(config, {}), lambda_factor=0.5)
    record = json.loads(json.dumps(config.to_dict()))
    monkeypatch.setitem(MEMBERS, "wide", MEMBERS["wide"] | {"hidden_neuron": (7,)})
    assert member_configs(Config.from_dict(record)) == member_configs(config)
    assert member_configs(config)[0].hidden_neuron == (1000,)


def test_a_record_without_its_members_settings_is_read_by_the_earlier_rule():
    """Its settings are those that are not a default, or else the member's."""
    config = Config(members=("wide",), hidden_neuron=(500,), train_epoch=60)
    record = config.to_dict()
    del record["member_settings"]
    (wide,) = member_configs(Config.from_dict(json.loads(json.dumps(record))))
    assert (wide.hidden_neuron, wide.train_epoch) == ((1000,), 60)

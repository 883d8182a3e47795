"""report.html: what a finished run is worth, on one page that needs nothing else.

It shows what config.json and summary.json hold, and what a person judges a model by: curves,
calibration, errors by rating, and what the model takes for similar. No script, no address; what
came from the data is escaped, as all text is.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from config import Config
from data.ratings import Ratings
from evaluation.metrics import RECONSTRUCTION
from evaluation.slices import Bin
from records.plots import draw_calibration, svg
from serving.recommender import nearest

WELL_KNOWN, NEAREST = 8, 5  # the items with the most ratings, and the most similar ones of each
CURVES_INCHES, CALIBRATION_INCHES = (5.8, 4.0), (5.0, 4.2)  # so that a phone shows their text
CSS = """
:root { color-scheme: light; --ink: #222; --soft: #5d6570; --line: #dde1e6; --mark: #c8452f }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 74rem; background: #fff;
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1, h2, h3, p { margin: 0 }
h1 { font-size: 1.6rem; line-height: 1.2 }
h2 { font-size: 1.15rem; margin-bottom: .3rem }
h3 { font-size: 1rem; margin-bottom: .2rem }
p + p { margin-top: .5rem }
section { margin-top: 2.2rem; min-width: 0 }
.grid { display: grid; gap: 0 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)) }
.flow { columns: 27rem; column-gap: 2.5rem; margin-top: 2.2rem }
.flow section { break-inside: avoid; margin: 0; padding-bottom: 2.2rem }
.flow + section { margin-top: 0 }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 15.5rem), 1fr)); gap: 1rem 2rem;
  margin-top: .8rem }
.note, figcaption, th, dt { color: var(--soft); font-size: .9rem; font-weight: normal }
.warning { border-left: 4px solid var(--mark); padding-left: .7rem; margin-top: .8rem }
.numbers { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: 0 0 .8rem }
.numbers dd { margin: 0; font-size: 1.5rem; line-height: 1.2 }
.numbers div:first-child dd { font-size: 2.6rem; line-height: 1.1; color: var(--mark) }
.numbers div { display: flex; flex-direction: column; justify-content: flex-end }
figure { margin: 0 }
svg { display: block; width: 100%; height: auto }
svg text { font-family: inherit !important }
.scroll { overflow-x: auto; margin-top: .5rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  overflow-wrap: normal }
th, td { padding: .2rem .5rem .2rem 0; text-align: right; vertical-align: bottom;
  border-bottom: 1px solid var(--line) }
td { font-size: .95rem; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.bar { width: 32%; min-width: 4.5rem; padding-right: 0; vertical-align: middle }
.bar i { display: block; height: .7rem; background: var(--mark); opacity: .75;
  print-color-adjust: exact; -webkit-print-color-adjust: exact }
.zero { background: linear-gradient(var(--soft), var(--soft)) center / 1px 100% no-repeat }
ol { margin: 0; padding: 0; list-style: none }
li { display: flex; justify-content: space-between; gap: 1rem; font-size: .93rem }
li span:last-child { flex: none; color: var(--soft); font-variant-numeric: tabular-nums }
.facts { columns: 19rem; column-gap: 2.5rem; margin: .3rem 0 0 }
.facts div { display: flex; justify-content: space-between; gap: 1rem; break-inside: avoid;
  border-bottom: 1px solid var(--line); font-size: .9rem }
.facts dd { margin: 0; text-align: right; min-width: 0 }
.facts dt { flex: none; max-width: 60% }
.changed dt, .changed dd { color: var(--ink); font-weight: 600 }
@media print { :root { font-size: 8.5pt } body { padding: 0 } h2, h3 { break-after: avoid }
  figure, tr, .cards div { break-inside: avoid } }
"""


@dataclass(frozen=True)
class Neighbours:
    """An item with many training ratings, and the titles and similarities of those most like it."""

    title: str
    num_ratings: int
    nearest: Sequence[tuple[str, float]]


@dataclass
class Findings:
    """What a report shows beside config.json and summary.json, as far as the run came."""

    curves: Figure | None = None
    by_value: Sequence[Bin] = ()
    calibration: Sequence[Bin] = ()
    neighbours: Sequence[Neighbours] = ()
    members: Sequence[Mapping[str, Any]] = ()


class Markup(str):
    """Text that is HTML already."""


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element; children and attributes are escaped unless they are `Markup`. An attribute that
    is a word of Python's ends in an underscore here."""
    given = "".join(f' {k.rstrip("_")}="{html.escape(str(v))}"' for k, v in attributes.items() if v)
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Sequence[Any]) -> Markup:
    """`parts` one after the other."""
    return Markup("".join(x if isinstance(x, Markup) else html.escape(str(x)) for x in parts))


def well_known(
    ratings: Ratings,
    item_ratings: np.ndarray,
    learned: Sequence[tuple[float, np.ndarray]],
    titles: Mapping[str, str],
) -> list[Neighbours]:
    """The items with the most training ratings, and those that the models take for similar.

    item_ratings: the training ratings of each item; learned: as in `recommender.nearest`.
    """
    learned = [(weight, vectors) for weight, vectors in learned if weight > 0]
    chosen = np.argsort(-item_ratings, kind="stable")[:WELL_KNOWN]
    chosen = chosen[item_ratings[chosen] > 0]
    if not learned:
        return []

    def title(item: int) -> str:
        return titles.get(str(ratings.item_ids[item]), f"item {ratings.item_ids[item]}")

    found = nearest(learned, chosen, item_ratings > 0, NEAREST)
    return [
        Neighbours(
            title(item),
            int(item_ratings[item]),
            [(title(each), float(x)) for each, x in zip(items, similarity, strict=True)],
        )
        for item, (items, similarity) in zip(chosen, found, strict=True)
    ]


def page(record: Mapping[str, Any], summary: Mapping[str, Any], findings: Findings) -> str:
    """The report of a run with this config.json and summary.json."""
    made_up = record["dataset"] == "synthetic"
    heading = f"AutoRec on {'synthetic ratings' if made_up else record['dataset']}"
    body = joined([
        tag("header", tag("h1", heading),
            note(f"{record['run_name']}, {summary['status']}"),
            *[tag("p", text, class_="warning") for text in warnings(summary, made_up)]),
        tag("div", result(record, summary), curves(findings.curves, summary), class_="grid"),
        tag("div", *errors(summary, findings), class_="flow"),
        neighbours(findings.neighbours),
        members(findings.members),
        section("Data", facts(data_facts(record))),
        section("Configuration", note("What is set otherwise than by default stands out."),
                settings(record)),
        section("Environment", facts(environment_facts(record, summary))),
    ])  # fmt: skip
    title = f"{heading}: {record['run_name']}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"{tag('title', title)}{tag('style', Markup(CSS))}</head>\n"
        f"<body>{tag('main', body)}</body></html>\n"
    )


def section(heading: str, *children: Any) -> Markup:
    """A part of the page; nothing where it has no content."""
    return tag("section", tag("h2", heading), *children) if any(children) else Markup()


# The result


def warnings(summary: Mapping[str, Any], made_up: bool) -> list[str]:
    """What a reader must know before any number."""
    texts = []
    if made_up:
        texts.append("These ratings are synthetic, made up by the program: the RMSE says nothing "
                     "about MovieLens.")  # fmt: skip
    if summary["status"] == "diverged":
        texts.append("The training diverged: there is no result.")
    if summary["status"] == "interrupted":
        texts.append(
            f"Interrupted after epoch {summary['epochs']}: this is what the model was worth then, "
            "and no result of these settings."
            if "epochs" in summary
            else "Interrupted before there was a result."
        )
    return texts


def result(record: Mapping[str, Any], summary: Mapping[str, Any]) -> Markup:
    """The numbers, and what they are."""
    if "final_test_rmse" not in summary:
        return Markup()
    leaking = summary.get(RECONSTRUCTION)
    numbers = {
        "test RMSE" if leaking is None else "honest test RMSE": summary["final_test_rmse"],
        "test MAE": summary["final_test_mae"],
        "NDCG@10": summary["ndcg_at_10"],
        "Recall@10": summary["recall_at_10"],
    }
    cells = [
        tag("div", tag("dt", name), tag("dd", f"{value:.4f}"))
        for name, value in numbers.items()
        if value is not None
    ]
    texts = [f"{origin(record, summary)} {protocol(record, summary)}"]
    if leaking is not None:
        texts.append(f"Reconstruction RMSE (test ratings as input) {leaking:.4f}: the earlier "
                     "program's measure, no prediction.")  # fmt: skip
    notes = []
    if "best_test_rmse" in summary:
        notes.append(
            f"The lowest test RMSE was {summary['best_test_rmse']:.4f}, of epoch "
            f"{summary['best_test_epoch']}. It shows how flat the end is; as it was found by "
            "looking at the test ratings, it is no result."
        )
    if summary["ranked_users"]:
        notes.append(
            "NDCG and recall rank all items that a user has not rated in training, over "
            f"{summary['ranked_users']:,} users; relevant is a test rating of 4 or more."
        )
    return section("Result", tag("dl", *cells, class_="numbers"),
                   *[tag("p", text) for text in texts], *map(note, notes))  # fmt: skip


def origin(record: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Which model the result is that of."""
    if record["members"]:
        return (f"A blend of {len(record['members'])} models, whose weights were learned on "
                "validation ratings.")  # fmt: skip
    epoch = summary["final_test_epoch"]
    how = f"After the last epoch, {epoch}."
    if "final_validation_rmse" in summary:
        how = (f"After epoch {epoch}, which has the lowest RMSE of validation ratings, "
               f"{summary['final_validation_rmse']:.4f}.")  # fmt: skip
    if record["tune"]:
        how += f" Validation ratings chose {', '.join(record['tune'])}."
    return how


def protocol(record: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """How the test ratings were predicted."""
    cold = summary["cold_test_ratings"]
    text = (f"Each of {summary['test_ratings']:,} test ratings was predicted from training ratings "
            "only")  # fmt: skip
    if cold:
        text += f" ({cold:,} with a user or an item that has none, as 3)"
    return (f"{text}, and the program chose no epoch and no setting by them. It is one split: "
            f"{split(record)}.")  # fmt: skip


def split(record: Mapping[str, Any]) -> str:
    """How the test ratings were set apart."""
    if record["test_file"]:
        return f"test ratings from {record['test_file']}"
    share = f"{100 * record['train_ratio']:g} % of the ratings to train on"
    if record["split"] == "time":
        return f"by time, the first {share}"
    return f"random, {share}, seed {record['split_seed']}"


def curves(figure: Figure | None, summary: Mapping[str, Any]) -> Markup:
    """RMSE against epoch."""
    if figure is None:
        return Markup()
    spoken = f"RMSE against epoch, {summary.get('epochs', 0)} epochs."
    if "final_test_rmse" in summary:
        spoken += (f" Training {summary['final_train_rmse']:.4f} at the end, test "
                   f"{summary['final_test_rmse']:.4f}.")  # fmt: skip
    return section("RMSE against epoch", picture(
        svg(figure, CURVES_INCHES, "curves", spoken),
        "A test curve that is flat at its end has converged; one that rises again overfits. The "
        "training RMSE is the running one: each mini-batch is scored just before its update."
    ))  # fmt: skip


def picture(drawn: str, caption: str) -> Markup:
    return tag("figure", Markup(drawn), tag("figcaption", caption))


# Where the errors are


def errors(summary: Mapping[str, Any], findings: Findings) -> list[Markup]:
    """Calibration, and RMSE by rating, user activity and item popularity."""
    if not findings.calibration:
        return []
    parts = [calibration(findings.calibration), by_value(findings.by_value)]
    for axis, what in (("user", "user activity"), ("item", "item popularity")):
        rows = summary[f"by_training_ratings_of_the_{axis}"]
        highest = max(row["rmse"] for row in rows)
        parts.append(section(
            f"Error by {what}",
            note(f"By how many training ratings the {axis} of a test rating has."),
            table(
                ("training ratings", "test ratings", "MAE", "RMSE", ""),
                [(row["training_ratings"], f"{row['test_ratings']:,}", f"{row['mae']:.4f}",
                  f"{row['rmse']:.4f}", bar(row["rmse"], highest)) for row in rows],
            ),
        ))  # fmt: skip
    return parts


def calibration(bins: Sequence[Bin]) -> Markup:
    spoken = "Mean true rating against predicted rating; the table below has the numbers."
    figure = svg(draw_calibration(bins), CALIBRATION_INCHES, "calibration", spoken)
    return section(
        "Calibration",
        picture(figure, "Of the ratings predicted as x, what is the mean? On the dashed line, just "
                "x; below it, predictions are too high."),
        table(
            ("predicted", "test ratings", "mean prediction", "mean rating"),
            [(part.label, f"{part.scores.num_ratings:,}", f"{part.mean_prediction:.3f}",
              f"{part.mean_rating:.3f}") for part in bins],
        ),
    )  # fmt: skip


def by_value(bins: Sequence[Bin]) -> Markup:
    largest = max(abs(part.bias) for part in bins)
    rows = [
        (part.label, f"{part.scores.num_ratings:,}", f"{part.scores.rmse:.4f}",
         f"{part.bias:+.4f}".replace("-", "−"), bar(part.bias, largest, signed=True))
        for part in bins
    ]  # fmt: skip
    return section(
        "Error by true rating",
        note("The bias is the mean error, prediction less rating. Any good prediction of uncertain "
             "ratings stays near the middle, so low ratings are predicted too high, and high ones "
             "too low; whether a prediction can be taken at its word, calibration tells."),
        table(("rating", "test ratings", "RMSE", "bias", ""), rows),
    )  # fmt: skip


def bar(value: float, largest: float, signed: bool = False) -> Markup:
    """A cell with a bar for `value`; a signed one begins in the middle."""
    share = value / largest if largest > 0 and np.isfinite(value / largest) else 0.0
    width = 100 * abs(share) / (2 if signed else 1)
    left = (50 - width if share < 0 else 50) if signed else 0
    drawn = tag("i", style=f"width:{width:.1f}%;margin-left:{left:.1f}%")
    return tag("td", drawn, class_="bar zero" if signed else "bar")


def note(text: str) -> Markup:
    return tag("p", text, class_="note")


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markup:
    """A table that scrolls by itself where it is too wide; a cell may be a `td` already."""
    head = tag("tr", *[tag("th", head, scope="col") if head else tag("td") for head in heads])
    lines = [
        tag("tr", *[cell if isinstance(cell, Markup) else tag("td", cell) for cell in row])
        for row in rows
    ]
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", *lines)), class_="scroll", tabindex="0"
    )


# What was learned, from what and how


def neighbours(items: Sequence[Neighbours]) -> Markup:
    cards = [
        tag("div", tag("h3", item.title), note(f"{item.num_ratings:,} training ratings"),
            tag("ol", *[tag("li", tag("span", title), tag("span", f"{similarity:.2f}"))
                        for title, similarity in item.nearest]))
        for item in items
    ]  # fmt: skip
    return section(
        "Nearest items",
        note("The items with the most training ratings, and those that the model takes for most "
             "similar, from ratings alone: the cosine of what it has learned of both (hidden codes "
             "where items are rows, weights W where they are columns), less the mean."),
        tag("div", *cards, class_="grid cards"),
    ) if cards else Markup()  # fmt: skip


def members(rows: Sequence[Mapping[str, Any]]) -> Markup:
    return section(
        "Models of the blend",
        note("RMSEs are those of each model alone."),
        table([name.replace("_", " ").replace("rmse", "RMSE") for name in rows[0]],
              [[shown(value) for value in row.values()] for row in rows]),
    ) if rows else Markup()  # fmt: skip


def data_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    users, items, ratings = (record[f"num_{name}"] for name in ("users", "items", "ratings"))
    train, test = record["train_ratings"], record["test_ratings"]
    found = {
        "dataset": record["dataset"],
        "users": users,
        "items": items,
        "ratings": ratings,
        "share of all pairs rated": f"{100 * ratings / users / items:.2f} %",
        "training ratings": train,
        "validation ratings": ratings - train - test,
        "test ratings": test,
        "cold test ratings": record["cold_test_ratings"],
        "rating scale": " to ".join(map(shown, record["rating_scale"])),
        "split": split(record),
        "fingerprint": record["fingerprint"],
    }
    return {name: f"{x:,}" if isinstance(x, int) else x for name, x in found.items()}


def settings(record: Mapping[str, Any]) -> Markup:
    """Every setting; those that are not the default stand out, unless that leaves them open."""
    default = Config().recorded()
    changed = [
        name for name, value in default.items()
        if value not in (None, (), "auto") and shown(record[name]) != shown(value)
    ]  # fmt: skip
    return facts({name: shown(record[name]) for name in default}, changed)


def environment_facts(record: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    names = ("python", "system", "machine", "cpus", "threads", "git_commit", "comet_experiment")
    found = {name.replace("_", " "): record[name] for name in names}
    found["seconds"] = summary["seconds"]
    if summary["peak_memory_mb"] is not None:
        found["peak memory"] = f"{summary['peak_memory_mb']:,.0f} MB"
    return {k: v for k, v in (found | record["packages"]).items() if v is not None}


def facts(pairs: Mapping[str, Any], changed: Sequence[str] = ()) -> Markup:
    return tag("dl", *[
        tag("div", tag("dt", name), tag("dd", value), class_="changed" * (name in changed))
        for name, value in pairs.items()
    ], class_="facts")  # fmt: skip


def shown(value: Any) -> str:
    """A setting, or a number of a table, as it is typed or read."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(shown, value)) or "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.5g}"
    return "–" if value is None else str(value)

"""What 100 and 1,000 languages and a billion sentences would take, from what one unit was measured to take.

    python benchmarks/scale_model.py                         # from benchmarks/results/*.json
    python benchmarks/scale_model.py --measure W --tagged O  # takes the units of files and training anew

Writes `benchmarks/results/scale.json`, a picture, and the tables of docs/scale.md. `--measure` reads sizes
and training times from a workspace whose release was trained (not in packs) and from an output of
`retrieveall tag`, into `scale-units.json`. Everything else is arithmetic: more of the same, side by side,
without any loss to the network or to stragglers. A GPU was not measured: its rows follow from operations, a
peak of the data sheet and an assumed share of it, and say so.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from measuring import RESULTS

from retrieveall.evaluation.plots import save_png
from retrieveall.lora.card import AdapterCard
from retrieveall.retrieval.shards import build_shard
from retrieveall.workspace import Workspace

_DOC = Path(__file__).parents[1] / "docs" / "scale.md"
_BEGIN, _END = "<!-- tables -->", "<!-- end of tables -->"

LANGUAGES: Final = (100, 1000)
SENTENCES: Final = 1_000_000_000
TRAIN_SENTENCES: Final = 5_000  # of a language, as measured
INDEX_SENTENCES: Final = 20_000  # of a language, as measured

# Not measured. Parameters of Qwen3-1.7B beside its embeddings; dense bfloat16 of an H100's data sheet.
GPU_PARAMETERS: Final = 1.41e9
GPU_PEAK_FLOPS: Final = 989e12
GPU_TRAIN_SHARE: Final = 0.30
GPU_TAG_SHARE: Final = 0.10  # decoding a few tokens a pass reads weights more than it computes
GPU_HIDDEN, GPU_MLP, GPU_KEYS, GPU_LAYERS = 2048, 6144, 1024, 28
GPU_ADAPTER_RANK: Final = 16

Table = tuple[str, list[str], list[list[str]]]


@dataclass(frozen=True, kw_only=True)
class Units:
    """What one of a thing takes, on one CPU core with the embedded base where it is time.

    Attributes:
        rest_s: Seconds to tag a sentence, routing left out.
        vote_s: Seconds to route it by vote among `routed_languages`; linear_s, centroid_s: by the others.
        linear_many_s: Of `linear` among `many_languages`.
        row_tokens: Mean tokens of a training row.
        prompt_tokens: Mean tokens of a prompt; new_tokens: of its answer.
    """

    rest_s: float
    vote_s: float
    centroid_s: float
    linear_s: float
    linear_many_s: float
    many_languages: int
    routed_languages: int
    train_s: float
    row_tokens: float
    prompt_tokens: float
    new_tokens: float
    corpus_bytes: float
    index_bytes: float
    index_rows: float
    adapter_bytes: float
    input_bytes: float
    output_bytes: float

    @classmethod
    def read(cls, folder: Path) -> Units:
        """Reads the results that they stand in."""
        (report,) = _read(folder, "panx-20000").values()
        routing = _read(folder, "routing-panx")
        routers = routing["routers"]
        engine, packed = (_read(folder, name)["setup"] for name in ("P1", "P14"))
        routed_by = routers[report["settings"]["routing"]]
        return cls(
            rest_s=1 / report["sentences_per_s"] - 1 / routed_by["sentences_per_s"],
            vote_s=1 / routers["vote"]["sentences_per_s"],
            centroid_s=1 / routers["centroid"]["sentences_per_s"],
            linear_s=1 / routers["linear"]["sentences_per_s"],
            linear_many_s=1 / routing["many"]["sentences_per_s"],
            many_languages=routing["many"]["languages"],
            routed_languages=len(routers["vote"]["by_language"]),
            row_tokens=statistics.mean(n for rows in packed["row_tokens"] for n in rows),
            prompt_tokens=engine["prompt_tokens"] / engine["rows"],
            new_tokens=engine["new_tokens"] / engine["rows"],
            **_read(folder, "scale-units")["units"],
        )

    def tag_at(self, languages: int, router: str) -> float:
        """Returns the seconds of a sentence; a vote asks the indexes of all languages."""
        return self.rest_s + self.route_at(languages, router)

    def route_at(self, languages: int, router: str) -> float:
        """Returns the seconds of routing: `linear` between two measured ends, the others in proportion."""
        if router == "linear":
            ends = (self.routed_languages, self.many_languages)
            return float(np.interp(languages, ends, (self.linear_s, self.linear_many_s)))
        routing = self.centroid_s if router == "centroid" else self.vote_s
        return routing * languages / self.routed_languages

    def vote_equals_the_rest_at(self) -> int:
        """Returns how many languages make the vote cost as much as all else."""
        return round(self.rest_s / self.vote_s * self.routed_languages)


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def measured(workspace: Workspace, tagged: Path) -> dict[str, Any]:
    """Reads sizes and times from a workspace's release and from the output of a tagging job."""
    release = workspace.releases.current()
    results = [workspace.run(name) for name in workspace.runs.list()]
    done = [run.read_json("result.json") for run in results if run.exists("result.json")]
    seconds = {one["adapter"]: one["seconds"] for one in done}
    cards: list[AdapterCard] = [workspace.pool.get(one.adapter).card for one in release.languages.values()]
    assert {card.training["train_limit"] for card in cards} == {TRAIN_SENTENCES}
    manifests = [
        json.loads(workspace.indexes.read_bytes(f"{code}/{one.index}/manifest.json"))
        for code, one in release.languages.items()
    ]
    assert {manifest["rows"]["context"] for manifest in manifests} == {INDEX_SENTENCES}
    files = list((tagged / "rows").glob("*.parquet"))
    texts = [text.encode() for file in files for text in pq.read_table(file)["text"].to_pylist()]
    return {
        "train_s": statistics.mean(seconds[one.adapter] for one in release.languages.values()),
        "corpus_bytes": statistics.mean(
            workspace.store.size_bytes(f"corpora/{card.corpus}/{card.language}/train.parquet")
            for card in cards
        ),
        "index_bytes": statistics.mean(
            sum(file.size_bytes for file in workspace.indexes.files(f"{code}/{one.index}"))
            for code, one in release.languages.items()
        ),
        "index_rows": statistics.mean(sum(manifest["rows"].values()) for manifest in manifests),
        "adapter_bytes": statistics.mean(
            sum(file.stat().st_size for file in workspace.pool.path(one.adapter).iterdir())
            for one in release.languages.values()
        ),
        "input_bytes": statistics.mean(len(text) + 1 for text in texts),
        "output_bytes": sum(file.stat().st_size for file in files) / len(texts),
    }


def training(units: Units) -> Table:
    """Returns what training takes."""
    tokens = TRAIN_SENTENCES * 2 * units.row_tokens
    gpu_s = 4 * GPU_PARAMETERS * tokens / (GPU_PEAK_FLOPS * GPU_TRAIN_SHARE)
    gpu_adapter = gpu_adapter_bytes()
    rows = [
        _row("core hours, embedded base", lambda n: f"{n * units.train_s / 3600:,.0f}"),
        _row("hours on 32 cores", lambda n: f"{n * units.train_s / 3600 / 32:,.1f}"),
        _row("GPU hours, Qwen3-1.7B (not measured)", lambda n: f"{n * gpu_s / 3600:,.1f}"),
        _row("training tokens", lambda n: f"{n * tokens:.2g}"),
        _row("read: corpora and neighbours", lambda n: size(n * (units.corpus_bytes + units.index_bytes))),
        _row("pool, embedded base, rank 64", lambda n: size(n * units.adapter_bytes)),
        _row(f"pool, Qwen3-1.7B, rank {GPU_ADAPTER_RANK}", lambda n: size(n * gpu_adapter)),
        _row("indexes on disk", lambda n: size(n * units.index_bytes)),
    ]
    return "Training and indexing", ["", *(f"{n:,} languages" for n in LANGUAGES)], rows


def _row(name: str, value: Any) -> list[str]:
    return [name, *(value(n) for n in LANGUAGES)]


def gpu_adapter_bytes() -> float:
    """Returns the size of an adapter on all linear layers of Qwen3-1.7B in float32."""
    h, m, k = GPU_HIDDEN, GPU_MLP, GPU_KEYS
    sides = 2 * (h + h) + 2 * (h + k) + 3 * (h + m)  # q and o, k and v, gate, up and down
    return 4.0 * GPU_ADAPTER_RANK * sides * GPU_LAYERS


def tagging(units: Units) -> Table:
    """Returns what a billion sentences take."""
    flops = 2 * GPU_PARAMETERS * (units.prompt_tokens + units.new_tokens)
    gpu_hours = SENTENCES * flops / (GPU_PEAK_FLOPS * GPU_TAG_SHARE) / 3600
    counts = (units.routed_languages, *LANGUAGES)
    rows = []
    for router in ("linear", "vote", "centroid"):
        hours = [SENTENCES * units.tag_at(n, router) / 3600 for n in counts]
        rows.append([f"core hours, embedded base, {router}", *(f"{h:,.0f}" for h in hours)])
        rows.append([f"days on 1,000 cores, {router}", *(f"{h / 24_000:,.1f}" for h in hours)])
    rows.append(["GPU hours, Qwen3-1.7B (not measured)", *[f"{gpu_hours:,.0f}"] * len(counts)])
    head = ["", *(f"{n:,} languages" for n in counts)]
    return "Tagging 1,000,000,000 sentences", head, rows


def files(units: Units) -> Table:
    """Returns what the fragments of a billion rows are like."""
    rows = []
    for per_fragment in (1_000, 10_000, 100_000):
        count = SENTENCES // per_fragment
        seconds = per_fragment * units.tag_at(units.routed_languages, "linear")
        rows.append(
            [
                f"{per_fragment:,}",
                f"{count:,}",
                size(per_fragment * units.output_bytes),
                f"{seconds / 60:,.1f} min",
                f"{math.ceil(count / 1000):,}",
            ]
        )
    head = ["rows per fragment", "files", "of each", "of one core", "listings of 1,000"]
    total = f"{size(SENTENCES * units.input_bytes)} in, {size(SENTENCES * units.output_bytes)} out"
    return f"Fragments ({total})", head, rows


def index_memory(units: Units) -> Table:
    """Returns what the vectors of an index take in memory, by its type."""
    bytes_row = {kind: index_bytes_per_row(kind) for kind in ("flat", "ivf", "hnsw")}
    rows = [
        [
            kind,
            f"{one:,.0f}",
            size(units.index_rows * one),
            *(size(n * units.index_rows * one) for n in LANGUAGES),
        ]
        for kind, one in bytes_row.items()
    ]
    head = ["type", "bytes a row", "one language", *(f"{n:,} languages" for n in LANGUAGES)]
    return "Memory of the indexes of one process that opens all languages", head, rows


def index_bytes_per_row(kind: Any, rows: int = 4096, dimensions: int = 256) -> float:
    """Builds an index of random vectors and returns its bytes a row; they depend on nothing else."""
    vectors = np.random.default_rng(0).standard_normal((rows, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return len(build_shard(vectors, kind)) / rows


def size(count: float) -> str:
    """Returns a number of bytes as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def bends(units: Units) -> dict[str, Any]:
    """Returns the numbers that docs/scale.md argues with."""
    return {
        "vote_equals_the_rest_at_languages": units.vote_equals_the_rest_at(),
        "linear_ms": 1000 * units.linear_s,
        "linear_many_ms": 1000 * units.linear_many_s,
        "routed_languages": units.routed_languages,
        "many_languages": units.many_languages,
        "vote_ms_a_language": 1000 * units.vote_s / units.routed_languages,
        "tagging_ms_without_routing": 1000 * units.rest_s,
        "gpu_adapter_megabytes": gpu_adapter_bytes() / 1e6,
    }


def markdown(tables: list[Table], numbers: dict[str, Any]) -> str:
    """Returns the tables of the page."""
    blocks = []
    for title, head, rows in tables:
        lines = [f"**{title}**", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        blocks.append("\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]))
    facts = [
        f"- Routing by `linear` costs {numbers['linear_ms']:.2f} ms a sentence at"
        f" {numbers['routed_languages']} languages and {numbers['linear_many_ms']:.2f} ms at"
        f" {numbers['many_languages']:,}.",
        f"- Routing by vote costs {numbers['vote_ms_a_language']:.2f} ms a language and sentence, all the"
        f" rest {numbers['tagging_ms_without_routing']:.1f} ms a sentence. They are equal at"
        f" {numbers['vote_equals_the_rest_at_languages']} languages.",
        f"- An adapter of Qwen3-1.7B at rank {GPU_ADAPTER_RANK} takes"
        f" {numbers['gpu_adapter_megabytes']:.0f} MB in float32.",
    ]
    return "\n\n".join([*blocks, "\n".join(facts)])


def draw(units: Units) -> Figure:
    """Draws the cost of a sentence over the number of languages, by router."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    counts = np.unique(np.geomspace(6, 1000, 60).astype(int))
    for router, colour in (("vote", "#b5483a"), ("linear", "#4f8a4c"), ("centroid", "#3a6ea5")):
        axes.plot(counts, [1000 * units.tag_at(int(n), router) for n in counts], color=colour, label=router)
    axes.axvline(units.vote_equals_the_rest_at(), color="#999999", linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("languages in the release")
    axes.set_ylabel("ms a sentence on one core")
    axes.set_title(
        "What routing adds: a vote asks every language's index, the others do not", loc="left", fontsize=10
    )
    axes.legend(frameon=False)
    return figure


def main() -> None:
    """Computes, writes and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="Folder of the results.")
    parser.add_argument("--measure", metavar="WORKSPACE", help="Take sizes and training times from it.")
    parser.add_argument("--tagged", type=Path, help="Output of `retrieveall tag`, with --measure.")
    arguments = parser.parse_args()
    if arguments.measure:
        units = measured(Workspace.open(arguments.measure), arguments.tagged)
        record = {"id": "scale-units", "corpus": "panx", "units": units}
        (arguments.results / "scale-units.json").write_text(json.dumps(record, indent=1) + "\n")
    text = report(arguments.results)
    before, rest = _DOC.read_text(encoding="utf-8").split(_BEGIN)
    _DOC.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{rest.split(_END)[1]}", encoding="utf-8")
    print(text)


def report(folder: Path) -> str:
    """Writes JSON and picture, and returns the tables."""
    units = Units.read(folder)
    tables = [training(units), tagging(units), files(units), index_memory(units)]
    numbers = bends(units)
    record = {
        "id": "scale",
        "assumed": {"gpu_train_share": GPU_TRAIN_SHARE, "gpu_tag_share": GPU_TAG_SHARE},
        "bends": numbers,
        "tables": [{"title": title, "head": head, "rows": rows} for title, head, rows in tables],
    }
    (folder / "scale.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    save_png(draw(units), folder / "scale.png")
    return markdown(tables, numbers)


if __name__ == "__main__":
    main()

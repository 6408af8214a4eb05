"""What equal report texts do to a model, and what `duplicates` does about it: exclude, positive or keep.

    python benchmarks/duplicates.py                          all models: 25 minutes on two free cores
    python benchmarks/duplicates.py --form keep --seed 0     one model; the last call without --form writes the table

The quickstart's 6,000 phantom patients are packed once more with stock reports in place of 58.5 % of them, so that as many
training reports share their text as real IMPRESSIONs do (58 %). Models are trained on them, alike but for `duplicates`
and the seed, and judged on the quickstart's own test patients, whose reports all differ. A model that is in the folder
already is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msvl.data.identity import keyed_hash  # noqa: E402
from msvl.data.pack import pack  # noqa: E402
from msvl.data.pack_options import PackOptions  # noqa: E402
from msvl.data.sources.phantom import SHARD_SAMPLES, SHORT_SIDE, PhantomSource  # noqa: E402
from msvl.data.study import Entry, Record  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
STOCK_SHARE = 0.585
FORMS = ("exclude", "positive", "keep")
FIGURES = {
    "zero-shot AUC": ("zero_shot", "auc_mean"),
    "retrieval R@5": ("retrieval", "report_r5"),
    "grounding CNR": ("grounding", "cnr"),
}


class StockReports(PhantomSource):
    """The phantom of a department that dictates stock phrases: the findings with their sides and nothing else."""

    name = "phantom-stock"

    def record(self, entry: Entry) -> Record:
        """Draw one study; 58.5 % of the training studies get a stock report."""
        record = super().record(entry)
        if entry.split != "train" or int(keyed_hash(entry.study, "stock")[:8], 16) / 16**8 > STOCK_SHARE:
            return record
        found = sorted(f"{finding.get('side', '')} {finding['name']}".strip() for finding in record.extra["findings"])
        text = ". ".join(name[0].upper() + name[1:] for name in found) or "No acute cardiopulmonary abnormality"
        return Record(**{**record.__dict__, "report": f"IMPRESSION: {text}."})


def packed_sets(shards: Path, *, patients: int, test: int) -> tuple[Path, Path]:
    """Return the training set, which has a test split of its own that nothing here uses, and the set to judge on."""
    workers = os.cpu_count() or 1
    training, exam = shards / "phantom-stock", shards / "phantom-exam"
    if not (training / "manifest.json").exists():
        options = PackOptions(short_side=SHORT_SIDE, shard_samples=SHARD_SAMPLES, tokenizer_vocabulary=1200)
        pack(StockReports(train=patients, val=300, test=0), training, options, workers=workers)
    if not (exam / "manifest.json").exists():
        options = PackOptions(short_side=SHORT_SIDE, shard_samples=SHARD_SAMPLES)
        pack(PhantomSource(train=0, val=0, test=test), exam, options, workers=workers)
    return training, exam


def shared_texts(patients: int) -> float:
    """Return the share of training reports whose text another one has."""
    source = StockReports(train=patients, val=0, test=0, size=64)
    texts = Counter(source.record(entry).report for entry in source.entries())
    return sum(count for count in texts.values() if count > 1) / sum(texts.values())


def figures_of(form: str, seed: int, sets: tuple[Path, Path], folder: Path, *, steps: int) -> dict[str, float]:
    """Return one model's figures; train and judge it if that was not done yet."""
    name = f"duplicates-{form}-{seed}"
    if not list((folder / name / "evaluation").glob("*.json")):
        objectives = [f"objectives.{scale}.duplicates={form}" for scale in ("global", "local")]
        objectives.append(f"objectives.modality.duplicates={'keep' if form == 'keep' else 'exclude'}")
        words = ["configs/pretrain/quickstart.yaml", f"data.path={sets[0]}", f"run.name={name}", f"run.folder={folder}",
                 f"train.seed={seed}", f"train.steps={steps}", f"train.save_every={steps}", f"validation.every={steps}",
                 "wandb.enabled=false"]  # fmt: skip
        msvl("train", *words, *objectives)
        msvl("evaluate", str(folder / name), "--data", str(sets[1]), "--tasks", "zero_shot,retrieval,grounding")
    judged = next((folder / name / "evaluation").glob("*.json"))
    results = json.loads(judged.read_text())["figures"]
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    shared = [row["train/excluded_share"] for row in rows if "train/excluded_share" in row]
    return {label: results[task][figure] for label, (task, figure) in FIGURES.items()} | {
        "pairs of one text, study or patient": statistics.mean(shared)
    }


def msvl(*words: str) -> None:
    """Run a command of this checkout's msvl."""
    subprocess.run([sys.executable, "-m", "msvl.cli", *words], cwd=ROOT, check=True)


def main() -> None:
    """Measure, print and write a CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--patients", type=int, default=6000)
    parser.add_argument("--test", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2, help="models per form")
    parser.add_argument("--form", choices=FORMS, help="only this one, and no table")
    parser.add_argument("--seed", type=int, default=0, help="with --form")
    parser.add_argument("--folder", type=Path, default=Path("runs/duplicates"), help="for shards and runs")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    sets = packed_sets(folder / "shards", patients=arguments.patients, test=arguments.test)
    if arguments.form:
        print(figures_of(arguments.form, arguments.seed, sets, folder, steps=arguments.steps))
        return
    share = shared_texts(arguments.patients)
    print(f"{share:.1%} of the training reports share their text")
    rows = []
    for seed in range(arguments.seeds):
        for form in FORMS:
            found = figures_of(form, seed, sets, folder, steps=arguments.steps)
            rows.append({"duplicates": form, "seed": seed, **{name: round(value, 4) for name, value in found.items()}})
            print(rows[-1], flush=True)
    target = ROOT / "benchmarks" / "results" / f"duplicates-{datetime.now(UTC):%Y-%m-%d}.csv"
    target.parent.mkdir(exist_ok=True)
    with open(target, "w", newline="", encoding="utf-8") as stream:
        stream.write(
            f"# {os.cpu_count()} cores, {arguments.steps} steps, {share:.1%} of training reports share their text\n"
        )
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

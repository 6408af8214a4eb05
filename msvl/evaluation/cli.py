"""`msvl evaluate` and `msvl report`. Torch is imported only when a command runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msvl.config.errors import ConfigError
from msvl.evaluation.config import DEFAULT_TASKS, EvaluationConfig
from msvl.evaluation.locate import locate_model

if TYPE_CHECKING:
    from msvl.evaluation.evaluate import Request

EVALUATE_EXAMPLE = "Example: msvl evaluate runs/quickstart --untrained"
REPORT_EXAMPLE = "Example: msvl report runs/quickstart"


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands."""
    evaluate = subparsers.add_parser("evaluate", help="judge a model on held-out data", epilog=EVALUATE_EXAMPLE)
    evaluate.add_argument(
        "model", metavar="CHECKPOINT_OR_RUN", type=Path, help="run, checkpoint or exported model folder"
    )
    evaluate.add_argument("--data", metavar="DIR", help="packed set (default: the one it was trained on)")
    evaluate.add_argument("--split", default="test", help="split to judge (default: test)")
    evaluate.add_argument(
        "--tasks", metavar="A,B", help=f"tasks, separated by commas (default: {','.join(DEFAULT_TASKS)})"
    )
    evaluate.add_argument(
        "--prompts", type=Path, metavar="FILE", help="YAML {finding: {positive: [...], negative: [...]}}"
    )
    evaluate.add_argument("--untrained", action="store_true", help="judge a randomly initialised twin beside")
    evaluate.add_argument(
        "--score", choices=("global", "local", "both"), help="zero-shot headline score (default: global)"
    )
    evaluate.add_argument("--sigma", type=float, help="Gaussian on grounding maps, in patches (default: 0)")
    evaluate.add_argument("--resamples", type=int, help="bootstrap draws over patients (default: 1000)")
    evaluate.add_argument("--probe-samples", type=int, help="training images for the probes (default: 2000)")
    evaluate.add_argument(
        "--train-subset", metavar="FILE", help="list of `msvl data subset`: learn from these training samples alone"
    )
    evaluate.add_argument("--limit", type=int, help="judge at most this many images")
    evaluate.add_argument("--seed", type=int, help="seed of bootstrap, untrained twin and examples (default: 0)")
    evaluate.add_argument("--name", help="name of the result file (default: DATA-SPLIT)")
    evaluate.add_argument("--json", action="store_true", help="print the result as JSON instead of tables")
    evaluate.add_argument(
        "--protocol",
        metavar="NAME",
        help="judge by protocol cards: clean, maco, mrm, benchx, ... or a YAML file (msvl protocol list)",
    )
    evaluate.add_argument(
        "--ranks", type=int, default=1, help="processes on this machine, with --protocol (default: 1)"
    )
    evaluate.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="with --protocol: write the Markdown tables here too, with the command",
    )
    evaluate.set_defaults(run=main)
    report = subparsers.add_parser("report", help="write report.html and results.json of a run", epilog=REPORT_EXAMPLE)
    report.add_argument("run_folder", metavar="RUN", type=Path, help="run folder")
    report.add_argument("--json", action="store_true", help="print results.json")
    report.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Run the command that was typed; return the exit code."""
    return _evaluate(arguments) if arguments.command == "evaluate" else _report(arguments)


def build_config(arguments: argparse.Namespace) -> EvaluationConfig:
    """Return the configuration that the options ask for. Raises ConfigError naming the wrong option."""
    chosen: dict[str, Any] = {
        "zero_shot_score": arguments.score,
        "grounding_sigma": arguments.sigma,
        "resamples": arguments.resamples,
        "probe_samples": arguments.probe_samples,
        "train_subset": arguments.train_subset,
        "seed": arguments.seed,
    }
    if arguments.tasks is not None:
        chosen |= {"tasks": tuple(name.strip() for name in arguments.tasks.split(",") if name.strip()), "strict": True}
    from pydantic import ValidationError

    try:
        return EvaluationConfig(**{name: value for name, value in chosen.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = (
            str(first["loc"][0])
            .replace("_", "-")
            .replace("zero-shot-score", "score")
            .replace("grounding-sigma", "sigma")
        )
        raise ConfigError(f"--{option} {first['input']!r}: {first['msg']}") from error


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.protocol is not None:
        from msvl.evaluation.protocol_command import evaluate_by_protocol

        return evaluate_by_protocol(arguments)
    if arguments.ranks != 1:
        raise ConfigError(f"--ranks {arguments.ranks}: several processes need --protocol NAME")
    if arguments.page is not None:
        raise ConfigError(f"--page {arguments.page}: the page holds the tables of --protocol NAME")
    config = build_config(arguments)
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit {arguments.limit}: give a number of images, 1 or more")
    place = locate_model(arguments.model)
    from msvl.evaluation.evaluate import Request, evaluate

    request = Request(
        place=place,
        data=arguments.data,
        split=arguments.split,
        prompts=arguments.prompts,
        untrained=arguments.untrained,
        limit=arguments.limit,
        name=arguments.name,
        config=config,
    )
    path, content = evaluate(request, say=_say)
    sys.stdout.write(json.dumps(content, indent=2) + "\n" if arguments.json else _tables(content))
    _say_end(request, path, content)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from msvl.evaluation.report import write_report

    page, results = write_report(arguments.run_folder)
    if arguments.json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
    sys.stderr.write(
        f"Wrote {page} and {page.parent / 'results.json'}\nNext: open {page} in a browser; it needs no network\n"
    )
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"msvl evaluate: {text}\n")
    sys.stderr.flush()


def _tables(content: dict[str, Any]) -> str:
    from msvl.evaluation.tables import as_text, finding_table, headline_table

    data, figures = content["data"], content["figures"]
    parts = [
        f"{data['name']}, split {data['split']}: {data['images']:,} images of {data['patients']:,} patients\n\n",
        as_text(headline_table(figures)),
    ]
    by_finding = finding_table(figures)
    if by_finding.rows:
        parts += ["\n", as_text(by_finding)]
    return "".join(parts)


def _say_end(request: Request, path: Path, content: dict[str, Any]) -> None:
    took = sum(content["seconds"].values())
    after = f"msvl report {request.place.run}" if request.place.run else f"less {path}"
    sys.stderr.write(f"Took {took:.0f} s. Wrote {path}\nNext: {after}\n")

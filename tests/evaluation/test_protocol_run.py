"""Judgement by a protocol, from a packed set to tables: whole, cached, the same on any number of ranks."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from msvl.cli import main
from msvl.config.errors import ConfigError, DataError
from msvl.evaluation import exam
from msvl.evaluation.locate import locate_model
from msvl.evaluation.protocol import read_protocol
from msvl.evaluation.protocol_command import TASKS
from msvl.evaluation.protocol_run import ProtocolRequest, evaluate_protocol
from tests.evaluation.judged_runs import NoisePhantom, fast_protocol, make_run, pack_phantom
from tests.helpers.ranks import run_ranks

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_phantom(tmp_path_factory.mktemp("shards") / "phantom")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    """A run that was judged by the fast protocol beside its untrained twin."""
    folder = tmp_path_factory.mktemp("runs")
    run = make_run(folder, packed)
    protocol = fast_protocol(folder / "fast.yaml")
    assert main(["evaluate", str(run), "--protocol", str(protocol), "--untrained", "--resamples", "20"]) == 0
    return run


def content_of(run: Path) -> dict:
    return json.loads((run / "evaluation" / "phantom-test-fast.json").read_text())


@pytest.mark.evidence(
    "`msvl evaluate RUN --protocol NAME` judges the paper's tasks, and every figure carries its protocol card",
    how="cpu",
)
def test_every_task_is_judged_and_every_figure_has_its_card(judged: Path) -> None:
    content = content_of(judged)
    assert tuple(content["figures"]) == TASKS
    for task, figures in content["figures"].items():
        card = content["cards"][task]
        assert "left_out" not in figures, figures
        assert card["card"] == f"fast/{task}/any"
        assert card["digest"] == read_protocol(str(judged.parent / "fast.yaml")).card(task, "any").digest
        assert isinstance(figures[card["headline"]], float)
        assert f"{card['headline']}_untrained" in figures, task
        assert card["splits"] == "the packed set's own, by patient"


def test_figures_have_intervals_and_several_flavours(judged: Path) -> None:
    figures = content_of(judged)["figures"]
    assert {"f1_mean", "accuracy_mean", "threshold", "auc_mean_by_prompts", "brier"} <= set(figures["zero_shot"])
    assert {"maco", "chexzero", "biovil", "cxr_clip", "plain", "own"} == set(
        figures["zero_shot"]["auc_mean_by_prompts"]
    )
    for name in ("auc_mean_at_10", "auc_mean_at_100", "auc_mean_at_100_spread", "auc_mean_interval"):
        assert name in figures["linear_probe"] and (name in figures["fine_tuned"])
    for name in (
        "dice_image_at_100",
        "dice_batched_at_100",
        "dice_pooled_at_100",
        "dice_positive_at_100",
        "dice_image_chance",
    ):
        assert 0 <= figures["segmentation"][name] <= 1
    assert {"miou_micro", "miou_macro", "cnr_absolute_micro", "iou_0.3", "pointing_chance"} <= set(figures["grounding"])
    assert {"report_r5_fold", "image_r1", "report_median_rank"} <= set(figures["retrieval"])
    assert figures["linear_probe"]["training_images_at_10"] == 10


def test_tables_stand_in_four_formats_and_mark_what_others_reported(judged: Path) -> None:
    folder = judged / "evaluation" / "phantom-test-fast-tables"
    text = (folder / "tables.md").read_text()
    own = [line for line in text.splitlines() if line.startswith("| **fine-tuned**")]
    assert len(own) == 1 and "card fast/fine_tuned/any" in own[0]
    theirs = [line for line in text.splitlines() if line.startswith("| paper's method")]
    assert theirs and all("reported by others" in line for line in theirs)
    rows = list(csv.reader((folder / "tables.csv").open()))
    assert {row[0] for row in rows} >= {"Classification, AUC (%)", "Retrieval (%)"}
    tex = (folder / "tables.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") >= 5
    assert r"1 \%" in tex
    page = (folder / "tables.html").read_text()
    assert page.count("<svg") >= 2 and "http:" not in page and "https:" not in page


def test_subgroups_are_judged_where_the_data_say_them(judged: Path) -> None:
    groups = content_of(judged)["subgroups"]
    assert set(groups) == {"zero_shot", "linear_probe", "fine_tuned"}
    own = groups["zero_shot"]
    assert {"sex: F", "sex: M", "view: PA", "view: AP"} <= set(own)
    assert own["sex: F"]["images"] + own["sex: M"]["images"] == 48
    assert 0 <= own["sex: F"]["auc_mean"] <= 1


def test_the_gallery_stays_in_the_run_folder(judged: Path) -> None:
    folder = judged / "evaluation" / "phantom-test-fast-gallery"
    pictures = list(folder.glob("grounding-*.png"))
    assert len(pictures) == 8
    assert {cv2.imread(str(picture)).shape for picture in pictures} == {(64, 64, 3)}  # the stored images' own
    assert "looked elsewhere" in (folder / "index.html").read_text()


def judge(run: Path, protocol: Path, tasks: tuple[str, ...] = TASKS) -> dict:
    """Judge on this rank."""
    torch.set_num_threads(1)
    request = ProtocolRequest(place=locate_model(run), protocol=read_protocol(str(protocol)), tasks=tasks)
    return evaluate_protocol(request, say=lambda text: None)[1]["figures"]


def test_a_second_judgement_only_reads(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("an image was encoded again")

    before = content_of(judged)["figures"]
    monkeypatch.setattr(exam, "encode_images", broken)
    files = sorted((judged / "evaluation" / "cache").rglob("*.npz"))
    stamps = [file.stat().st_mtime_ns for file in files]
    again = judge(judged, judged.parent / "fast.yaml")
    assert [file.stat().st_mtime_ns for file in files] == stamps
    assert again["fine_tuned"]["auc_mean"] == before["fine_tuned"]["auc_mean"]
    assert again["zero_shot"]["auc"] == before["zero_shot"]["auc"]


def test_another_card_trains_anew_on_the_same_features(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(judged, tmp_path / "copy"))
    monkeypatch.setattr(exam, "encode_images", lambda *_, **__: pytest.fail("features were extracted again"))
    before = len(list((run / "evaluation" / "cache").rglob("linear_probe-*.npz")))
    other = fast_protocol(tmp_path / "other.yaml", linear_probe={"ratios": ["100"]})
    judge(run, other, tasks=("linear_probe",))
    assert len(list((run / "evaluation" / "cache").rglob("linear_probe-*.npz"))) == before + 2


def numbers(tree: object, path: str = "") -> dict[str, float]:
    """Return every float below, by path."""
    if isinstance(tree, float):
        return {path: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return {name: value for key, item in items for name, value in numbers(item, f"{path}.{key}").items()}


@pytest.mark.ranks
@pytest.mark.evidence("Judgement by a protocol on 1 and on 4 ranks is equal to 1e-6", how="gloo")
def test_one_and_four_ranks_find_the_same(judged: Path, packed: Path, tmp_path: Path) -> None:
    monopoly = numbers(judge(make_run(tmp_path / "one", packed), judged.parent / "fast.yaml"))
    answers = run_ranks(4, judge, make_run(tmp_path / "four", packed), judged.parent / "fast.yaml", timeout=240)
    for answer in answers:
        shared = numbers(answer)
        assert shared.keys() == monopoly.keys()
        worst = max(abs(shared[name] - monopoly[name]) for name in shared)
        assert worst < 1e-6
    assert len(monopoly) > 100


@pytest.mark.evidence("On noise images every task is at chance", how="cpu")
def test_noise_is_at_chance_for_every_task(tmp_path: Path) -> None:
    packed = pack_phantom(tmp_path / "noise", source=NoisePhantom, train=150, val=60, test=120)
    found = judge(make_run(tmp_path, packed), fast_protocol(tmp_path / "fast.yaml"))
    assert abs(found["zero_shot"]["auc_mean"] - 0.5) < 0.1
    assert abs(found["linear_probe"]["auc_mean"] - 0.5) < 0.1
    assert abs(found["fine_tuned"]["auc_mean"] - 0.5) < 0.1
    for side in ("report", "image"):
        low, high = found["retrieval"][f"{side}_r10_interval"]
        assert low - 0.02 <= found["retrieval"][f"{side}_r10_chance"] <= high + 0.02
    assert abs(found["grounding"]["cnr"]) < 0.25
    assert abs(found["grounding"]["pointing"] - found["grounding"]["pointing_chance"]) < 0.15
    assert found["segmentation"]["dice_image"] <= best_constant_dice(packed) + 0.03


def best_constant_dice(packed_folder: Path) -> float:
    """Return the mean Dice over masks of the better of nothing at all and the usual place in training."""
    from msvl.data.packed import PackedSet
    from msvl.data.reader import SampleReader
    from msvl.evaluation.dice import count_masks, image_dice
    from msvl.evaluation.tuning.images import square_mask

    packed = PackedSet.open(packed_folder)
    bits = range(len(packed.mask_bits))
    masks = {}
    for split in ("train", "test"):
        index = packed.split(split)
        reader = SampleReader(index)
        masks[split] = np.stack([square_mask(reader, number, 64, bits) for number in range(len(index))])
    usual = masks["train"].mean(axis=0) > 0.5
    best = []
    for place in bits:
        truth = masks["test"][:, place]
        scores = [
            image_dice(count_masks(np.broadcast_to(mask, truth.shape), truth)).mean()
            for mask in (usual[place], usual[place] & False)
        ]
        best.append(max(scores))
    return float(np.mean(best))


def test_what_the_data_lack_is_left_out_with_the_reason(judged: Path, tmp_path: Path) -> None:
    bare = pack_phantom(tmp_path / "bare", train=0, val=0, test=20)
    with pytest.raises(DataError, match="linear probe needs training studies with labels"):
        main_debug(["evaluate", str(judged), "--data", str(bare), "--protocol", "clean", "--tasks", "linear_probe"])
    assert (
        main(
            ["evaluate", str(judged), "--data", str(bare), "--protocol", "clean", "--resamples", "0", "--name", "bare"]
        )
        == 0
    )
    figures = json.loads((judged / "evaluation" / "bare.json").read_text())["figures"]
    assert "left_out" in figures["segmentation"] and "left_out" in figures["zero_shot"]
    assert "report_r5" in figures["retrieval"] and "miou" in figures["grounding"]


def main_debug(words: list[str]) -> int:
    return main([*words, "--debug"])


def test_options_that_belong_to_the_card_are_refused(judged: Path) -> None:
    with pytest.raises(ConfigError, match="--sigma belongs to the card"):
        main_debug(["evaluate", str(judged), "--protocol", "clean", "--sigma", "1"])
    with pytest.raises(ConfigError, match="with --protocol the tasks are zero_shot, retrieval"):
        main_debug(["evaluate", str(judged), "--protocol", "clean", "--tasks", "ridge_probe"])
    with pytest.raises(ConfigError, match="several processes need --protocol"):
        main_debug(["evaluate", str(judged), "--ranks", "2"])
    with pytest.raises(ConfigError, match="--page x.md: the page holds the tables of --protocol"):
        main_debug(["evaluate", str(judged), "--page", "x.md"])


def test_the_tables_are_a_page_of_documentation(judged: Path, tmp_path: Path) -> None:
    words = [
        "--protocol",
        str(judged.parent / "fast.yaml"),
        "--tasks",
        "retrieval",
        "--resamples",
        "0",
        "--name",
        "paged",
    ]
    assert main(["evaluate", str(judged), *words, "--page", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# paged\n\nMade by this command:\n\n```bash\nmsvl ")
    assert "| **report for an image** |" in text and "retrieval: card fast/retrieval/any" in text


def test_a_task_without_a_card_is_left_out_with_the_reason(judged: Path, packed: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((judged.parent / "fast.yaml").read_text())
    tree["cards"] = [card for card in tree["cards"] if card["task"] == "retrieval"]
    file = tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump(tree | {"name": "few"}))
    run = make_run(tmp_path / "few", packed)
    assert main(["evaluate", str(run), "--protocol", str(file), "--resamples", "0"]) == 0
    figures = json.loads((run / "evaluation" / "phantom-test-few.json").read_text())["figures"]
    assert figures["zero_shot"] == {"left_out": "protocol few has no card for it on phantom"}
    assert "report_r5" in figures["retrieval"]
    with pytest.raises(ConfigError, match="protocol few has no card for grounding on phantom; it has retrieval"):
        main_debug(["evaluate", str(run), "--protocol", str(file), "--tasks", "grounding"])


def test_figures_are_over_the_findings_of_the_card(judged: Path, packed: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((judged.parent / "fast.yaml").read_text())
    for card in tree["cards"]:
        if card["task"] in ("zero_shot", "linear_probe"):
            card["findings"] = ["nodule", "cardiomegaly", "fracture"]
    file = tmp_path / "some.yaml"
    file.write_text(yaml.safe_dump(tree | {"name": "some"}))
    words = ["--tasks", "zero_shot,linear_probe", "--resamples", "0"]
    assert main(["evaluate", str(judged), "--protocol", str(file), *words]) == 0
    content = json.loads((judged / "evaluation" / "phantom-test-some.json").read_text())
    for task, figure in (("zero_shot", "auc"), ("linear_probe", "auc_at_100")):
        assert set(content["figures"][task][figure]) == {"nodule", "cardiomegaly"}
        assert content["cards"][task]["findings_left_out"] == ["fracture"]
    whole = content_of(judged)["figures"]["zero_shot"]["auc"]
    mean = (whole["nodule"] + whole["cardiomegaly"]) / 2
    assert content["figures"]["zero_shot"]["auc_mean"] == pytest.approx(mean)
    table = (judged / "evaluation" / "phantom-test-some-tables" / "tables.md").read_text()
    assert "zero shot: the mean leaves out fracture: one class alone in val or test" in table


def test_a_learning_rate_is_chosen_on_val(judged: Path, tmp_path: Path) -> None:
    figures = {}
    run = Path(shutil.copytree(judged, tmp_path / "copy"))
    for name, factors in (("one", [1.0]), ("slow", [1e-3]), ("both", [1e-3, 1.0])):
        protocol = fast_protocol(tmp_path / f"{name}.yaml", fine_tuned={"lr_factors": factors})
        figures[name] = judge(run, protocol, tasks=("fine_tuned",))["fine_tuned"]
    chosen = figures["both"]["lr_factor_at_100_by_seed"]["0"]
    same = figures["one" if chosen == 1.0 else "slow"]
    assert (
        figures["both"]["auc_at_100"] == same["auc_at_100"] != figures["slow" if chosen == 1.0 else "one"]["auc_at_100"]
    )
    assert (figures["one"]["images_seen_at_100"], figures["both"]["images_seen_at_100"]) == (48, 96)


@pytest.mark.ranks
def test_several_ranks_from_the_command(judged: Path, packed: Path, tmp_path: Path) -> None:
    import sys

    from tests.helpers.runs import execute

    run = make_run(tmp_path, packed)
    words = [
        "evaluate",
        str(run),
        "--protocol",
        "clean",
        "--tasks",
        "retrieval,grounding",
        "--ranks",
        "2",
        "--resamples",
        "0",
    ]
    done = execute([sys.executable, "-m", "msvl.cli", *words])
    assert done.code == 0, done.output[-2000:]
    content = json.loads((run / "evaluation" / "phantom-test-clean.json").read_text())
    assert content["ranks"] == 2
    assert done.output.count("Wrote ") == 1


def test_a_set_that_is_not_the_cards_list_says_so(judged: Path, packed: Path) -> None:
    from msvl.data.packed import PackedSet
    from msvl.evaluation.protocol_run import split_status

    card = read_protocol("maco").card("segmentation", "siim-acr")
    own = PackedSet.open(packed)
    assert split_status(card, own).startswith("NOT the card's lists for test, train, train_1, train_10, val")
    own.manifest["source"]["split_lists"] = {name: item.sha256 for name, item in card.splits.items()}
    assert split_status(card, own) == "as in the card: every list has its SHA-256"


@pytest.mark.evidence("A set packed by a card's lists says so beside its figures", how="cpu")
def test_a_set_packed_by_the_cards_lists_is_known_by_their_digests(judged: Path, tmp_path: Path) -> None:
    import hashlib

    from msvl.data.phantom.miniatures.nih_chestxray14 import pack_words
    from tests.helpers.miniatures import source_of, write_miniature

    nih = write_miniature("nih-chestxray14", tmp_path / "nih", train=40, val=10, test=10)
    images: dict[str, list[str]] = {}
    for entry in source_of("nih-chestxray14", nih).entries():
        images.setdefault(entry.patient, []).append(entry.image)
    patients = list(images.values())
    parts = {"train": patients[:30], "train_10": patients[:20], "val": patients[30:45], "test": patients[45:]}
    splits, words = {}, []
    for name, part in parts.items():
        file = tmp_path / f"{name}.txt"
        file.write_text("".join(f"{image} 0 1\n" for own in part for image in own))
        splits[name] = {"origin": "here", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        words += ["--split-list", f"{name}={file}"]
    out = tmp_path / "set"
    assert (
        main(["data", "pack", *pack_words(nih), *words, "--short-side", "64", "--workers", "1", "--out", str(out)]) == 0
    )

    card = {"task": "linear_probe", "data": "nih-chestxray14", "splits": splits, "headline": "auc_mean",
            "linear_probe": {"ratios": ["10", "100"]}}  # fmt: skip
    figures = {}
    for name, cards in (("theirs", [card]), ("others", [card | {"splits": splits | {"val": splits["test"]}}])):
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"name": name, "title": "t", "summary": "s", "cards": cards}))
        line = ["evaluate", str(judged), "--data", str(out), "--protocol", str(file), "--tasks", "linear_probe"]
        assert main([*line, "--resamples", "0", "--name", name]) == 0
        figures[name] = json.loads((judged / "evaluation" / f"{name}.json").read_text())
    status = {name: content["cards"]["linear_probe"]["splits"] for name, content in figures.items()}
    assert status["theirs"] == "as in the card: every list has its SHA-256"
    assert status["others"].startswith("NOT the card's lists for val")
    few = tmp_path / "few.txt"
    assert main(["data", "subset", str(out), "--ratio", "0.5", "--out", str(few)]) == 0
    assert main([*line, "--resamples", "0", "--name", "few", "--train-subset", str(few)]) == 0
    learnt = json.loads((judged / "evaluation" / "few.json").read_text())["figures"]["linear_probe"]
    assert learnt["training_images_at_100"] == len(few.read_text().splitlines()) - 1
    listed = sum(map(len, parts["train_10"]))
    assert figures["theirs"]["figures"]["linear_probe"]["training_images_at_10"] == listed


def test_a_foreign_image_encoder_is_probed_and_tuned(packed: Path, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    vit = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=64, patch_size=16
    )
    ViTModel(vit, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    file = tmp_path / "theirs.yaml"
    file.write_text(f"format: huggingface\npath: {tmp_path / 'vit'}\nimage_size: 64\n")
    protocol = fast_protocol(tmp_path / "fast.yaml")
    assert main(["evaluate", str(file), "--data", str(packed), "--protocol", str(protocol), "--resamples", "0"]) == 0
    figures = json.loads((tmp_path / "theirs-evaluation" / "phantom-test-fast.json").read_text())["figures"]
    assert {"auc_mean_at_100"} <= set(figures["linear_probe"]) & set(figures["fine_tuned"])
    assert "dice_image_at_100" in figures["segmentation"]
    for task in ("zero_shot", "retrieval", "grounding"):
        assert figures[task]["left_out"] == f"{task} needs a text encoder: this checkpoint is an image encoder alone"


@pytest.mark.evidence(
    "A foreign ResNet is probed and fine-tuned; what needs blocks or text says why it is left out", how="cpu"
)
def test_a_foreign_resnet_is_probed_and_tuned(packed: Path, tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "bottleneck"}
    ResNetModel(ResNetConfig(**shape)).save_pretrained(tmp_path / "resnet")
    file = tmp_path / "theirs.yaml"
    file.write_text(f"format: huggingface\npath: {tmp_path / 'resnet'}\nimage_size: 64\n")
    protocol = fast_protocol(tmp_path / "fast.yaml")
    assert main(["evaluate", str(file), "--data", str(packed), "--protocol", str(protocol), "--resamples", "0"]) == 0
    figures = json.loads((tmp_path / "theirs-evaluation" / "phantom-test-fast.json").read_text())["figures"]
    assert {"auc_mean_at_100"} <= set(figures["linear_probe"]) & set(figures["fine_tuned"])
    why = "segmentation reads the blocks of a vision transformer, and this checkpoint is a ResNetImageEncoder"
    assert figures["segmentation"]["left_out"] == why
    with pytest.raises(DataError, match="segmentation reads the blocks of a vision transformer"):
        main_debug(
            ["evaluate", str(file), "--data", str(packed), "--protocol", str(protocol), "--tasks", "segmentation"]
        )


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, packed: Path, judged: Path) -> Path:
    run = make_run(tmp_path_factory.mktemp("other"), packed, seed=6)
    words = ["--tasks", "zero_shot,retrieval,linear_probe", "--resamples", "0"]
    assert main(["evaluate", str(run), "--protocol", str(judged.parent / "fast.yaml"), *words]) == 0
    return run


@pytest.mark.evidence(
    "`msvl compare A B` gives paired differences of two models with intervals over patients", how="cpu"
)
def test_two_models_are_paired(judged: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(judged), str(other), "--resamples", "50", "--json", "--name", "phantom-test-fast"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"zero_shot", "retrieval", "linear_probe"}
    mine, theirs = (content_of(run)["figures"]["zero_shot"]["auc_mean"] for run in (judged, other))
    item = found["zero_shot"]["auc_mean"]
    assert (item["first"], item["second"]) == pytest.approx((mine, theirs))
    assert item["interval"][0] <= item["difference"] <= item["interval"][1]
    assert found["linear_probe"]["auc_mean_at_100"]["first"] == pytest.approx(
        content_of(judged)["figures"]["linear_probe"]["auc_mean_at_100"]
    )


def test_a_model_does_not_differ_from_itself(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(judged), str(judged), "--resamples", "20", "--name", "phantom-test-fast"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows and all(row[-1] == "no" and "+0.000" in row for row in rows)


def test_different_cards_are_not_compared(judged: Path, packed: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, packed)
    protocol = fast_protocol(tmp_path / "fast.yaml", retrieval={"fold": 10})
    main(["evaluate", str(run), "--protocol", str(protocol), "--tasks", "retrieval", "--resamples", "0"])
    with pytest.raises(DataError, match="retrieval was judged by different cards .* see `msvl protocol diff`"):
        main_debug(["compare", str(judged), str(run), "--name", "phantom-test-fast"])


def test_a_run_without_a_judgement_is_told_how_to_get_one(judged: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="has no judgement by a protocol: make one by msvl evaluate .* --protocol clean"
    ):
        main_debug(["compare", str(tmp_path), str(judged)])


def test_a_share_that_is_too_small_is_left_out_alone(judged: Path, tmp_path: Path) -> None:
    protocol = fast_protocol(tmp_path / "small.yaml", linear_probe={"ratios": ["1", "100"]})
    figures = judge(judged, protocol, tasks=("linear_probe",))["linear_probe"]
    assert figures["left_out_at_1"] == "1 training images (1 %) hold no finding with both classes"
    assert "auc_mean_at_100" in figures and "auc_mean_at_1" not in figures


@pytest.mark.evidence(
    "Foreign checkpoints with a text tower are judged zero-shot, by retrieval and by grounding", how="cpu"
)
def test_a_foreign_checkpoint_with_its_text_side(packed: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    from msvl.data.packed import PackedSet

    words = PackedSet.open(packed).tokenizer_path
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    ViTModel(ViTConfig(**shape, image_size=64, patch_size=16), add_pooling_layer=False).save_pretrained(
        tmp_path / "vit"
    )
    state = BertModel(BertConfig(**shape, vocab_size=300), add_pooling_layer=False).state_dict()
    layers = {f"{name}.weight": torch.randn(16, 24) for name in ("image", "text", "patch")}
    torch.save({f"bert.{name}": value for name, value in state.items()} | layers, tmp_path / "text.pt")
    text = {
        "tokenizer": str(words), "path": str(tmp_path / "text.pt"), "prefix": "bert.", "heads": 3, "projection": ["text"],
        "image_projection": ["image"], "patch_projection": ["patch"],
    }  # fmt: skip
    file = tmp_path / "theirs.yaml"
    protocol = fast_protocol(tmp_path / "fast.yaml")
    wanted = ["--data", str(packed), "--protocol", str(protocol), "--resamples", "0"]
    for name, side, tasks in (("whole", text, "zero_shot,retrieval,grounding"), ("flat", text | {"patch_projection": []}, "grounding")):  # fmt: skip
        content = {"format": "huggingface", "path": str(tmp_path / "vit"), "image_size": 64, "text": side}
        file.write_text(json.dumps(content))
        words_typed = ["evaluate", str(file), *wanted, "--tasks", tasks, "--name", name]
        if name == "whole":
            assert main(words_typed) == 0
            figures = json.loads((tmp_path / "theirs-evaluation" / "whole.json").read_text())["figures"]
            assert {"auc_mean"} <= set(figures["zero_shot"]) and {"miou"} <= set(figures["grounding"])
            assert 0 <= figures["retrieval"]["report_r5"] <= 1
        else:
            with pytest.raises(DataError, match="grounding needs patches in the space of texts"):
                main_debug(words_typed)

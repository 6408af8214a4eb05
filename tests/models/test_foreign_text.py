"""Text sides of other people's checkpoints compute what their own classes compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    ViTConfig,
    ViTModel,
)

from msvl.config.errors import CheckpointError, ConfigError
from msvl.models.foreign import foreign_tokeniser, load_foreign
from msvl.models.foreign_text import build_projection

SIDE, WIDTH = 32, 64
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "effusion", "there", "is", ".", "left"]
PROMPTS = ["there is effusion", "no effusion."]


def grey() -> Tensor:
    return torch.randint(0, 256, (2, 1, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def pixels() -> Tensor:
    return ((grey().float() / 255 - 0.4) / 0.2).expand(-1, 3, -1, -1)


def tokenizer(folder: Path) -> Path:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def described(folder: Path, **values: Any) -> Path:
    file = folder / "theirs.yaml"
    file.write_text(yaml.safe_dump({"image_size": SIDE, "heads": 2, "pixel_mean": 0.4, "pixel_std": 0.2} | values))
    return file


class Theirs(nn.Module):
    """A ViT and a BERT whose features are projected as ConVIRT and MGCA do: linear, batch norm, ReLU, linear, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        image = ViTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=96,
            image_size=SIDE,
            patch_size=8,
            layer_norm_eps=1e-6,
        )
        text = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        )
        self.visual, self.language = ViTModel(image, add_pooling_layer=False), BertModel(text)
        self.proj_v, self.proj_t, self.patch = self.head(WIDTH), self.head(48), nn.Conv2d(WIDTH, 16, 1, bias=False)
        for buffer in self.buffers():  # statistics of a trained network are not 0 and 1
            if buffer.is_floating_point() and buffer.ndim == 1:
                buffer.uniform_(0.5, 1.5)

    def head(self, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(width, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.BatchNorm1d(16, affine=False)
        )


LAYERS = {
    "projection": ["proj_t.0", "proj_t.1", "relu", "proj_t.3", "proj_t.4"],
    "image_projection": ["proj_v.0", "proj_v.1", "relu", "proj_v.3", "proj_v.4"],
    "patch_projection": ["patch"],
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Theirs, Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("theirs")
    model = Theirs().eval()
    torch.save({"state_dict": model.state_dict()}, folder / "model.ckpt")
    model.visual.save_pretrained(folder / "vit")
    tokenizer(folder / "tokenizer")
    return model, folder


def text_side(folder: Path, **values: Any) -> dict[str, Any]:
    own = {
        "tokenizer": str(folder / "tokenizer"),
        "path": str(folder / "model.ckpt"),
        "prefix": "language.",
        "heads": 2,
    }
    return own | LAYERS | values


@pytest.mark.evidence("Foreign text towers and projections compute what their own classes compute", how="cpu")
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_texts_and_images_are_embedded_as_by_their_own_classes(
    theirs: tuple[Theirs, Path], tmp_path: Path, pooling: str
) -> None:
    model, folder = theirs
    file = described(
        tmp_path, format="huggingface", path=str(folder / "vit"), text=text_side(folder, pooling=pooling)
    )  # fmt: skip
    ours, tokeniser = load_foreign(file), foreign_tokeniser(file)
    tokens = tokeniser.encode_prompts(PROMPTS)
    with torch.no_grad():
        hidden = model.language(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        mask = tokens.attention_mask
        pooled = {
            "cls": hidden[:, 0],
            "mean": (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
            "last": hidden[torch.arange(2), mask.sum(1) - 1],
        }[pooling]
        states = model.visual(pixels()).last_hidden_state
        image = functional.normalize(model.proj_v(states[:, 0]), dim=-1)
        text = functional.normalize(model.proj_t(pooled), dim=-1)
        found, said = ours.encode_image(grey()), ours.encode_text(tokens)
    assert torch.allclose(found.image, image, atol=1e-5) and torch.allclose(said.text, text, atol=1e-5)
    assert torch.allclose(found.patches, states[:, 1:] @ model.patch.weight[:, :, 0, 0].T, atol=1e-5)
    assert torch.allclose(functional.normalize(said.sentences[:, 0], dim=-1), text, atol=1e-5)
    assert ours.reads_text and ours.places_text


def test_an_image_may_be_the_mean_of_its_projected_patches(theirs: tuple[Theirs, Path], tmp_path: Path) -> None:
    model, folder = theirs
    side = text_side(folder, image_from="patches", image_projection=[])
    ours = load_foreign(described(tmp_path, format="huggingface", path=str(folder / "vit"), text=side))
    with torch.no_grad():
        patches = model.visual(pixels()).last_hidden_state[:, 1:] @ model.patch.weight[:, :, 0, 0].T
        assert torch.allclose(ours.encode_image(grey()).image, functional.normalize(patches.mean(1), dim=-1), atol=1e-5)


def test_position_zero_for_every_token_makes_it_blind_to_order(theirs: tuple[Theirs, Path], tmp_path: Path) -> None:
    model, folder = theirs
    file = described(tmp_path, format="huggingface", path=str(folder / "vit"), text=text_side(folder, positions=False))
    ours, tokeniser = load_foreign(file), foreign_tokeniser(file)
    with torch.no_grad():
        one, other = (ours.encode_text(tokeniser.encode_prompts([text])).text for text in ("no left effusion", "effusion left no"))  # fmt: skip
        assert torch.allclose(one, other, atol=1e-6)


def test_a_bert_of_mgca_is_read_as_its_code_computes_it(theirs: tuple[Theirs, Path], tmp_path: Path) -> None:
    # A.3: no token types, cross-attention that is never used, a buffer of old transformers, a pooler and a head of words.
    model, folder = theirs
    bert = model.language
    state = {f"text.{name}": value for name, value in bert.state_dict().items() if "token_type" not in name}
    state |= {
        "text.embeddings.position_ids": torch.arange(32)[None],
        "text.encoder.layer.0.crossattention.self.key.weight": torch.ones(48, 64),
        "cls.predictions.bias": torch.ones(len(WORDS)),
    } | {f"proj_t.{name}": value for name, value in model.proj_t.state_dict().items()}
    state |= {name: value for name, value in model.state_dict().items() if name.startswith(("proj_v", "patch"))}
    torch.save({"state_dict": state}, tmp_path / "mgca.ckpt")
    side = text_side(folder, path=str(tmp_path / "mgca.ckpt"), prefix="text.", positions=False)
    file = described(tmp_path, format="huggingface", path=str(folder / "vit"), text=side)
    ours, tokens = load_foreign(file), foreign_tokeniser(file).encode_prompts(PROMPTS)
    with torch.no_grad():
        embedded = bert.embeddings.word_embeddings(tokens.input_ids) + bert.embeddings.position_embeddings.weight[0]
        hidden = bert.embeddings.LayerNorm(embedded)  # no token types, every position 0
        mask = (1.0 - tokens.attention_mask[:, None, None].float()) * torch.finfo(torch.float32).min
        for layer in bert.encoder.layer:
            hidden = layer(hidden, mask)
            hidden = hidden if isinstance(hidden, Tensor) else hidden[0]
        expected = functional.normalize(model.proj_t(hidden[:, 0]), dim=-1)
        assert torch.allclose(ours.encode_text(tokens).text, expected, atol=1e-5)


def test_a_bert_with_more_than_a_bert_is_refused(theirs: tuple[Theirs, Path], tmp_path: Path) -> None:
    model, folder = theirs
    more = {"language.encoder.layer.0.attention.self.distance_embedding.weight": torch.ones(63, 24)}
    torch.save(model.state_dict() | more, tmp_path / "relative.ckpt")
    side = text_side(folder, path=str(tmp_path / "relative.ckpt"))
    with pytest.raises(CheckpointError, match="1 weights of the encoder have no place .*distance_embedding"):
        load_foreign(described(tmp_path, format="huggingface", path=str(folder / "vit"), text=side))


def test_layers_are_known_by_their_shapes() -> None:
    state = {"a.weight": torch.randn(4, 3, 1, 1), "n.weight": torch.randn(4), "n.bias": torch.randn(4)}
    layers = build_projection(["a", "gelu", "n"], state, "text.projection")
    x = torch.randn(5, 3)
    expected = functional.layer_norm(functional.gelu(x @ state["a.weight"][:, :, 0, 0].T), (4,), state["n.weight"], state["n.bias"], eps=1e-12)  # fmt: skip
    assert torch.allclose(layers(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prefix": "bert."}, "no weight begins with prefix 'bert.'"),
        ({"prefix": ""}, "the text tower lacks .* is text.prefix '' right"),
        ({"projection": ["proj_t.7"]}, "text.projection: the file has no layer proj_t.7"),
        ({"projection": ["proj_v.0"]}, "text.projection: its first layer takes 64 channels, the encoder gives 48"),
        ({"projection": ["proj_t.0"]}, "text and images do not meet: their projections end at 16 and 32 channels"),
        ({"heads": 5}, "text.heads: 48 channels are no multiple of 5"),
        ({"image_from": "patches", "patch_projection": []}, "text.image_from: patches needs text.patch_projection"),
        ({"path": "nothing.ckpt"}, "text.path: there is no file nothing.ckpt"),
    ],
)
def test_faults_are_one_sentence(
    theirs: tuple[Theirs, Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    _, folder = theirs
    file = described(tmp_path, format="huggingface", path=str(folder / "vit"), text=text_side(folder, **change))
    with pytest.raises((CheckpointError, ConfigError), match=message):
        load_foreign(file)


def clip() -> CLIPModel:
    torch.manual_seed(1)
    text = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=16,
        projection_dim=24,
        eos_token_id=10,
        bos_token_id=9,
        pad_token_id=10,
    )
    vision = CLIPVisionConfig(
        hidden_size=2 * WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        projection_dim=24,
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)).eval()


def openai_names(model: CLIPModel) -> dict[str, Tensor]:
    """Return the weights under the names of OpenAI's own class."""
    state, found = model.state_dict(), {}
    sides = (("vision_model", "visual."), ("text_model", ""))
    for theirs_side, ours in sides:
        for layer in range(2):
            block, new = f"{theirs_side}.encoder.layers.{layer}", f"{ours}transformer.resblocks.{layer}"
            for kind in ("weight", "bias"):
                found[f"{new}.attn.in_proj_{kind}"] = torch.cat(
                    [state[f"{block}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                )
                for old, name in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
                                  ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):  # fmt: skip
                    found[f"{new}.{name}.{kind}"] = state[f"{block}.{old}.{kind}"]
    for kind in ("weight", "bias"):
        found[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        found[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        found[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
    found["visual.conv1.weight"] = state["vision_model.embeddings.patch_embedding.weight"]
    found["visual.class_embedding"] = state["vision_model.embeddings.class_embedding"]
    found["visual.positional_embedding"] = state["vision_model.embeddings.position_embedding.weight"]
    found["token_embedding.weight"] = state["text_model.embeddings.token_embedding.weight"]
    found["positional_embedding"] = state["text_model.embeddings.position_embedding.weight"]
    found["visual.proj"], found["text_projection"] = (
        state["visual_projection.weight"].T,
        state["text_projection.weight"].T,
    )
    return {name: value.contiguous() for name, value in found.items()} | {"logit_scale": torch.tensor(4.6)}


@pytest.mark.parametrize(("kind", "half"), [("openai_clip", False), ("openai_clip", True), ("huggingface", False)])
def test_a_clip_computes_the_same(tmp_path: Path, kind: str, half: bool) -> None:
    model = clip().half().float() if half else clip()
    path = tmp_path / ("clip.safetensors" if kind == "openai_clip" else "clip")
    if kind == "openai_clip":
        sizes = {name: torch.tensor(32) for name in ("input_resolution", "context_length", "vocab_size")}
        save_file({name: value.half() if half else value for name, value in openai_names(model).items()} | sizes, path)
    else:
        model.save_pretrained(path)
    ours = load_foreign(
        described(tmp_path, format=kind, path=str(path), text={"tokenizer": str(tokenizer(tmp_path / "words"))})
    )  # fmt: skip
    ids = torch.tensor([[9, 5, 6, 10, 10], [9, 7, 8, 6, 10]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        text = functional.normalize(model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output, dim=-1)
        image = functional.normalize(model.get_image_features(pixel_values=pixels()).pooler_output, dim=-1)
        from msvl.data.batch import Tokens

        said = ours.encode_text(Tokens(ids, mask, mask - 1, torch.ones(2, 1, dtype=torch.bool)))
        assert torch.allclose(said.text, text, atol=1e-5)
        assert torch.allclose(ours.encode_image(grey()).image, image, atol=1e-5)
    assert ours.reads_text and not ours.places_text


def test_a_clip_whose_images_are_read_by_a_resnet_is_refused(tmp_path: Path) -> None:
    save_file(openai_names(clip()) | {"visual.layer1.0.conv1.weight": torch.ones(2)}, tmp_path / "RN50.safetensors")
    with pytest.raises(CheckpointError, match="the first is visual.layer1.0.conv1.weight"):
        load_foreign(described(tmp_path, format="openai_clip", path=str(tmp_path / "RN50.safetensors")))

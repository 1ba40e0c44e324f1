"""`btchat train embedded`: the small model of every installation, from nothing, in one resumable run."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import nn

from bt_model.backends.llava import special_ids
from bt_model.generation.llama import Llama
from bt_model.prompt.templates import template
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.text.clip_text import ClipTextTower
from bt_model.text.clip_tokenizer import ClipTokenizer
from bt_model.training.config import EmbeddedPlan, embedded_plan
from bt_model.training.objectives.alignment import AlignmentHead
from bt_model.training.trainer.cost import Trained, metered
from bt_model.training.trainer.precision import Precision, native_precision
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import VideoEncoder
from lab.clips import Corpus, load_corpus
from lab.dialogues import DialogueTokens
from lab.export import export
from lab.pictures import varied_scenes
from lab.report import write_report
from lab.shapes.captions import caption
from lab.shapes.questions import questions
from lab.stages import (
    CaptionSide,
    ChatParts,
    TextSide,
    freeze,
    train_baseline,
    train_branch,
    train_captioner,
    train_instruct,
    train_language,
    train_towers,
)
from lab.tokenizers import CHAT_SPECIALS, CLIP_SPECIALS, train_tokenizer

CHAT_VOCABULARY = 640
CLIP_VOCABULARY = 512
NUM_TEXT_SCENES = 3000
TEMPLATE = "plain"


@dataclass(frozen=True, slots=True)
class Model:
    """All parts of the embedded model; `train_all` says what the branches and chat models are."""

    plan: EmbeddedPlan
    tower: ClipVisionTower
    text: TextSide
    head: AlignmentHead
    pretrained: BTAdapter
    tuned: BTAdapter
    image: ChatParts
    video: ChatParts
    baseline: ChatParts
    tokens: DialogueTokens

    def encoder(self, adapter: BTAdapter | None) -> VideoEncoder:
        """The tower with one of the branches."""
        return VideoEncoder(self.tower, adapter)


@dataclass(frozen=True, slots=True)
class Clips:
    """Scenes and the trunk states of their clips, for training and for the held-out combinations."""

    train: Corpus
    test: Corpus


def write_tokenizers(folder: Path, seed: int) -> None:
    """Learn both tokenizers from the texts of the training split."""
    rng = Random(f"texts {seed}")
    drawn = varied_scenes("train", NUM_TEXT_SCENES, rng)
    captions = [caption(scene, rng, static_share=0.3) for scene in drawn]
    asked = [question for scene in drawn for question in questions(scene, rng)]
    chats = [f"USER: {q.text}\n ASSISTANT: {q.sentence}" for q in asked]
    train_tokenizer(captions, CLIP_VOCABULARY, CLIP_SPECIALS, folder / "clip.json", lower_case=True)
    train_tokenizer(chats, CHAT_VOCABULARY, CHAT_SPECIALS, folder / "chat.json", lower_case=False)


def build(work: Path, seed: int, precision: Precision) -> Model:
    """Fresh parts, initialised from the seed; tokenizers are learnt once and kept in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "chat.json").exists():
        write_tokenizers(work, seed)
    chat_tokenizer = TextTokenizer(work / "chat.json")
    clip_tokenizer = ClipTokenizer.from_file(work / "clip.json")
    plan = embedded_plan(chat_tokenizer.vocab_size, clip_tokenizer.vocab_size, precision)
    torch.manual_seed(seed)
    tower = ClipVisionTower(plan.vision)
    adapters = [BTAdapter(plan.vision, plan.adapter) for _ in range(2)]
    projectors = [nn.Linear(plan.vision.width, plan.llama.width) for _ in range(3)]
    text = TextSide(ClipTextTower(plan.text), clip_tokenizer)
    head = AlignmentHead(plan.vision.width, plan.vision.projection_dim)
    image, video, baseline = (ChatParts(Llama(plan.llama), projector) for projector in projectors)
    style = template(TEMPLATE)
    ids = special_ids(chat_tokenizer, style)
    tokens = DialogueTokens(style, ids, chat_tokenizer.encode, plan.vision.num_patches + 1)
    return Model(
        plan=plan,
        tower=tower,
        text=text,
        head=head,
        pretrained=adapters[0],
        tuned=adapters[1],
        image=image,
        video=video,
        baseline=baseline,
        tokens=tokens,
    )


def prepare_clips(model: Model, work: Path) -> Clips:
    """The clips with their trunk states, as the branch and CLIP alone read them."""
    plan = model.plan.corpus
    encoders = [model.encoder(model.pretrained), model.encoder(None)]
    splits = {"train": plan.num_clips, "test_combo": plan.num_test_clips}
    drawn = {
        split: varied_scenes(split, count, Random(f"clips {split} {model.plan.seed}"))
        for split, count in splits.items()
    }
    loaded = (load_corpus(work, name, some, encoders, plan.num_frames) for name, some in drawn.items())
    return Clips(*(corpus.in_memory() for corpus in loaded))


def train_all(
    work: Path, *, seed: int = 0, precision: Precision = "float32"
) -> tuple[Model, Clips, dict[str, Trained]]:
    """All stages in order; those that are done are only read back.

    `pretrained` is the branch after video-text pre-training, `tuned` after instruction tuning. The `image`
    chat model never saw video: with the pre-trained branch it is the paper's zero-shot plug-in.
    """
    model = build(work, seed, precision)
    trained: dict[str, Trained] = {}
    trained["towers"] = train_towers(model.plan, model.encoder(None), model.text, work)
    freeze(model.tower)
    freeze(model.text)
    model.pretrained.init_from_trunk(model.tower)
    with metered(work / "clips.cost") as trained["clips"]:
        clips = prepare_clips(model, work)
    still = model.encoder(None)
    trained["language"] = train_language(model.plan, still, model.image, model.tokens, work)
    freeze(model.image.lm)
    freeze(model.image.projector)
    captioner, trained["captioner"] = train_captioner(model.plan, still, model.image, model.tokens, work)
    side = CaptionSide(model.text, captioner, model.tokens)
    trained["branch"] = train_branch(
        model.plan, model.encoder(model.pretrained), model.head, side, clips.train, work
    )
    freeze(model.pretrained)
    model.tuned.load_state_dict(model.pretrained.state_dict())
    for chat in (model.video, model.baseline):
        chat.lm.load_state_dict(model.image.lm.state_dict())
        chat.projector.load_state_dict(model.image.projector.state_dict())
    trained["instruct"] = train_instruct(
        model.plan, model.encoder(model.tuned), model.video, model.tokens, clips.train, work
    )
    trained["baseline"] = train_baseline(model.plan, still, model.baseline, model.tokens, clips.train, work)
    return model, clips, trained


def train_embedded(
    out: Path, work: Path, *, seed: int = 0, threads: int = 1, precision: Precision | None = None
) -> None:
    """Train, export to `out`, and write its REPORT.md; without a precision, in the fastest that fits here."""
    torch.set_num_threads(threads)
    model, clips, trained = train_all(work, seed=seed, precision=precision or native_precision())
    export(model, out, work)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    write_report(out / "REPORT.md", model, clips, trained, size)

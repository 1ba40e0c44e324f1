"""The parts of the embedded model, as training starts them."""

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
from bt_model.training.data.spelling import Speller
from bt_model.training.objectives.captioner import CAPTION_REQUEST
from bt_model.training.objectives.contrastive import AlignmentHead
from bt_model.training.pretrain.captioner import CaptionTokenizer
from bt_model.training.settings import Precision
from bt_model.vision.bt_adapter import BTAdapter
from bt_model.vision.clip import ClipVisionTower
from bt_model.vision.encoder import VideoEncoder
from lab.chat_model import ChatModel, TextEncoder
from lab.pictures import varied_scenes
from lab.plan import EmbeddedPlan, embedded_plan
from lab.shapes.captions import caption
from lab.shapes.questions import questions
from lab.tokenizers import CHAT_SPECIALS, CLIP_SPECIALS, train_tokenizer

CHAT_VOCABULARY = 640
CLIP_VOCABULARY = 512
NUM_TEXT_SCENES = 3000
TEMPLATE = "plain"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """All parts: two branches beside one tower, and three chat models (see lab/embedded.py)."""

    plan: EmbeddedPlan
    tower: ClipVisionTower
    text: TextEncoder
    head: AlignmentHead
    pretrained: BTAdapter
    tuned: BTAdapter
    image: ChatModel
    video: ChatModel
    baseline: ChatModel
    speller: Speller

    def encoder(self, adapter: BTAdapter | None) -> VideoEncoder:
        """The tower with one of the branches."""
        return VideoEncoder(self.tower, adapter)

    @property
    def num_video(self) -> int:
        """How many tokens a clip or picture becomes: its patches and its CLS."""
        return self.plan.vision.num_patches + 1

    @property
    def caption_tokenizer(self) -> CaptionTokenizer:
        """Captions as a captioner says them."""
        return CaptionTokenizer(self.speller, CAPTION_REQUEST, self.num_video, self.plan.llama.max_context)


def write_tokenizers(folder: Path, seed: int) -> None:
    """Learn both tokenizers from the texts of the training split."""
    rng = Random(f"texts {seed}")
    drawn = varied_scenes("train", NUM_TEXT_SCENES, rng)
    captions = [caption(scene, rng, static_share=0.3) for scene in drawn]
    listed = [question for scene in drawn for question in questions(scene, rng)]
    chats = [f"USER: {q.text}\n ASSISTANT: {q.sentence}" for q in listed]
    train_tokenizer(captions, CLIP_VOCABULARY, CLIP_SPECIALS, folder / "clip.json", lower_case=True)
    train_tokenizer(chats, CHAT_VOCABULARY, CHAT_SPECIALS, folder / "chat.json", lower_case=False)


def build(work: Path, seed: int, precision: Precision) -> EmbeddedModel:
    """Fresh parts, initialised from the seed; tokenizers are learnt once, in `work`."""
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
    text = TextEncoder(ClipTextTower(plan.text), clip_tokenizer)
    head = AlignmentHead(plan.vision.width, plan.vision.projection_dim)
    style = template(TEMPLATE)
    image, video, baseline = (ChatModel(Llama(plan.llama), projector) for projector in projectors)
    return EmbeddedModel(
        plan=plan,
        tower=tower,
        text=text,
        head=head,
        pretrained=adapters[0],
        tuned=adapters[1],
        image=image,
        video=video,
        baseline=baseline,
        speller=Speller(style, special_ids(chat_tokenizer, style), chat_tokenizer.encode),
    )

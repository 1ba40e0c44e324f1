"""The engines, each behind one call; imported where they run, which may be an environment of their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.serving.prompts import Prompt, token_table
from bt_model.generation.request import Tokens

if TYPE_CHECKING:
    from bt_model.generation.engine import BatchEngine

Answers = list[list[int]]
ENGINES = ("own", "sequential", "static", "transformers-cb", "vllm")
_PAGE, _STEP_TOKENS, _BLOCKS = 32, 512, 1024  # of transformers' continuous batching
_CONTEXT = 1024


class Peer(Protocol):
    """An engine that is started."""

    def answer(self, prompts: Sequence[Prompt]) -> Answers:
        """So many new tokens of each prompt as the engine was started for, greedily."""
        ...


class Own:
    """Our engine; each token is an event, as in the server."""

    def __init__(self, model: Path, rows: int, new_tokens: int) -> None:
        self._engine = own_engine(model, rows, _CONTEXT)
        self._engine.start()
        self._new_tokens = new_tokens
        self._number = 0

    def answer(self, prompts: Sequence[Prompt]) -> Answers:
        from bt_model.generation.request import Delta, GenRequest  # noqa: PLC0415

        self._number += 1
        handles = [
            self._engine.submit(
                GenRequest(f"{self._number}-{i}", prompt.segments, self._new_tokens, frozenset())
            )
            for i, prompt in enumerate(prompts)
        ]
        return [
            [token for event in handle.stream() if isinstance(event, Delta) for token in event.token_ids]
            for handle in handles
        ]


class Static:
    """transformers' `generate`, `rows` prompts at a time; with one row it is the reference."""

    def __init__(self, model: Path, rows: int, new_tokens: int) -> None:
        self._lm, self._rows, self._new_tokens = _from_transformers(model), rows, new_tokens

    def answer(self, prompts: Sequence[Prompt]) -> Answers:
        return [
            ids
            for begin in range(0, len(prompts), self._rows)
            for ids in self._batch(prompts[begin : begin + self._rows])
        ]

    def _batch(self, prompts: Sequence[Prompt]) -> Answers:
        import torch  # noqa: PLC0415

        table = self._lm.get_input_embeddings().weight.detach()
        rows = [prompt.embeds(table) for prompt in prompts]
        longest = max(map(len, rows))
        embeds = torch.zeros(len(rows), longest, table.shape[1])
        mask = torch.zeros(len(rows), longest, dtype=torch.int64)
        for i, row in enumerate(rows):
            embeds[i, longest - len(row) :], mask[i, longest - len(row) :] = row, 1
        with torch.inference_mode():
            answer = self._lm.generate(
                inputs_embeds=embeds, attention_mask=mask, max_new_tokens=self._new_tokens, do_sample=False
            )
        return answer.tolist()


class Sequential(Static):
    """One prompt after another."""

    def __init__(self, model: Path, rows: int, new_tokens: int) -> None:  # noqa: ARG002
        super().__init__(model, 1, new_tokens)


class ContinuousBatching:
    """transformers' own. It takes ids alone: soft tokens become rows of a table that is grown for them."""

    def __init__(self, model: Path, rows: int, new_tokens: int) -> None:
        from transformers import ContinuousBatchingConfig, GenerationConfig  # noqa: PLC0415

        self._lm, self._new_tokens = _from_transformers(model), new_tokens
        self._first: dict[bytes, int] = {}
        self._manager = self._lm.init_continuous_batching(
            generation_config=GenerationConfig(
                max_new_tokens=new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=_PAGE,
                num_blocks=_BLOCKS,
                max_batch_tokens=_STEP_TOKENS,
                max_requests_per_batch=rows,
            ),
        )
        self._manager.start()

    def answer(self, prompts: Sequence[Prompt]) -> Answers:
        inputs = [self._ids(prompt) for prompt in prompts]
        ids = self._manager.add_requests(inputs=inputs, max_new_tokens=self._new_tokens)
        answers: dict[str, list[int]] = {}
        while len(answers) < len(ids):
            result = self._manager.get_result(timeout=1)
            if result is None and not self._manager.is_running():
                raise RuntimeError("transformers' manager has ended")
            if result is not None and result.is_finished():
                answers[result.request_id] = list(result.generated_tokens)
        return [answers[i] for i in ids]

    def _ids(self, prompt: Prompt) -> list[int]:
        ids: list[int] = []
        for segment in prompt.segments:
            if isinstance(segment, Tokens):
                ids += segment.ids
            else:
                first = self._row(segment.key, segment.embeds)
                ids += range(first, first + len(segment.embeds))
        return ids

    def _row(self, key: bytes, embeds: Any) -> int:
        import torch  # noqa: PLC0415

        if key not in self._first:
            table = self._lm.get_input_embeddings()
            self._first[key] = len(table.weight)
            table.weight = torch.nn.Parameter(torch.cat((table.weight.detach(), embeds)), requires_grad=False)
        return self._first[key]


class VLLM:
    """vLLM in this process; its environment is not ours."""

    def __init__(self, model: Path, rows: int, new_tokens: int) -> None:
        from vllm import LLM, SamplingParams  # noqa: PLC0415

        self._lm = LLM(
            str(model), skip_tokenizer_init=True, dtype="float32", enable_prompt_embeds=True,
            max_num_seqs=rows, max_model_len=_CONTEXT, enable_prefix_caching=True,
        )  # fmt: skip
        self._options = SamplingParams(
            temperature=0, max_tokens=new_tokens, min_tokens=new_tokens, ignore_eos=True, detokenize=False
        )
        self._table = token_table(model)

    def answer(self, prompts: Sequence[Prompt]) -> Answers:
        given = [
            {"prompt_token_ids": prompt.ids} if prompt.ids else {"prompt_embeds": prompt.embeds(self._table)}
            for prompt in prompts
        ]
        outputs = self._lm.generate(given, self._options, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]


def start(engine: str, model: Path, rows: int, new_tokens: int) -> Peer:
    """One of ENGINES."""
    kind = (Own, Sequential, Static, ContinuousBatching, VLLM)[ENGINES.index(engine)]
    return kind(model, rows, new_tokens)


def own_engine(model: Path, rows: int, context: int) -> "BatchEngine":
    """Our engine over a folder in the format of transformers, not started."""
    from bt_model.backends.parts.llm import read_llama_config  # noqa: PLC0415
    from bt_model.generation.engine import BatchEngine  # noqa: PLC0415
    from bt_model.generation.llama import Llama  # noqa: PLC0415

    lm = Llama(read_llama_config(model)).eval()
    lm.load_state_dict(_weights(model))
    return BatchEngine(lm, max_batch=rows, max_context=context, keep_weights=False)


def _weights(model: Path) -> Any:
    from safetensors.torch import load_file  # noqa: PLC0415

    return load_file(model / "model.safetensors")


def _from_transformers(model: Path) -> Any:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    lm.generation_config.eos_token_id, lm.generation_config.pad_token_id = None, 0
    return lm

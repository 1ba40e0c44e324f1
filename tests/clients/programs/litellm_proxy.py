"""The proxy of LiteLLM, asked by openai-python: as without it, but for what the proxy itself changes."""

import cell
import openai
import openai_python as direct
from cell import PLACE, ability, loses, refuses
from openai_python import ask, client, text, video

IS_VLLM = PLACE.model == "vllm"


@ability("models")
def models() -> None:
    assert PLACE.model in [model.id for model in client.models.list()]


@ability("errors")
def errors() -> None:
    """The status is the server's, and its words are in the message; the provider hosted_vllm has no code."""
    for wrong, words in (
        (lambda: ask(video(PLACE.stale_id)), "no video"),
        (lambda: ask(video(PLACE.broken_url)), "cut off"),
        (lambda: ask(video(PLACE.broken_url), stream=True), "cut off"),
        (lambda: ask(temperature=9), "temperature"),
        (lambda: ask(n=99), "n is 99"),
    ):
        try:
            answer = wrong()
        except openai.BadRequestError as error:
            assert words in str(error), error  # noqa: PT017
        else:
            raise AssertionError(f"{words}: no error, but {answer}")
    assert text(ask(video(PLACE.video_id)))


@ability("stream_receipt")
def stream_receipt() -> None:
    if not IS_VLLM:
        direct.stream_receipt()
        return
    chunks = list(ask(video(PLACE.video_id), stream=True))
    is_lost = not any(getattr(chunk, "receipt", None) for chunk in chunks)
    sent = cell.asked_server(stream=True)
    loses("LiteLLM's `hosted_vllm/` drops what it does not know from chunks", is_lost, sent, '"receipt"')


@ability("uploads")
def uploads() -> None:
    refuses("LiteLLM's proxy has no route `/v1/uploads`", direct.uploads, openai.NotFoundError)


@ability("retries")
def retries() -> None:
    """The gateway's own key may have one request at once."""
    patient, model = client.with_options(max_retries=8), f"{PLACE.model}-of-one"
    cell.retried(
        lambda: text(
            patient.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
        )
    )


if __name__ == "__main__":
    cell.main()

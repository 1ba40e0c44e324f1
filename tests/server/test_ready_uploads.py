"""Uploads say whether questions about them can be answered, and clients may wait until they can."""

import httpx
import openai
import pytest

from tests.server.conftest import count, question
from tests.server.test_uploads import upload

_ENCODED = "btchat_videos_encoded_total"


def encoded(client: httpx.Client) -> float:
    return count(client, _ENCODED)


def test_an_upload_says_its_place_its_state_and_how_long_it_plays(
    client: httpx.Client, unseen: bytes
) -> None:
    before = encoded(client)
    answer = client.post("/v1/video/uploads", content=unseen)
    body = answer.json()
    assert answer.headers["location"] == f"/v1/video/uploads/{body['id']}"
    assert (body["status"], body["status_details"], body["duration"]) == ("processed", None, 1.2)
    assert client.get(answer.headers["location"]).json() == body
    assert client.get("/v1/video/uploads").json()["data"][0] == body
    assert encoded(client) == before  # nobody waits for tokens


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_client_may_wait_until_the_tokens_are_there(
    client: httpx.Client, unseen: bytes, method: str
) -> None:
    before = encoded(client)
    if method == "GET":
        path = f"/v1/video/uploads/{upload(client, unseen)}"
        answer = client.get(path, params={"wait": "true"})
    else:
        path = "/v1/video/uploads" if method == "POST" else "/v1/video/uploads/clip.mp4"
        answer = client.request(method, path, content=unseen, params={"wait": "true"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "processed"
    assert encoded(client) == before + 1
    receipt = client.post("/v1/video/chat", json=question(answer.json()["id"])).json()["receipt"]
    assert receipt["cache"]["features"] == "hit"


def test_openai_s_client_waits_for_a_file(client: httpx.Client, unseen: bytes) -> None:
    sdk = openai.OpenAI(api_key="none", base_url=f"{client.base_url}/v1")
    file = sdk.files.create(file=("clip.mp4", unseen), purpose="user_data")
    assert sdk.files.wait_for_processing(file.id, max_wait_seconds=5).status == "processed"
    form = {"file": ("clip.mp4", unseen)}
    answer = client.post("/v1/files", files=form, data={"purpose": "user_data"})
    assert answer.headers["location"] == f"/v1/files/{file.id}"
    assert answer.json()["duration"] == 1.2

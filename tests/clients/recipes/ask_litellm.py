import litellm

host = {"api_base": "http://localhost:8000/v1", "api_key": "none"}
with open("clip.mp4", "rb") as clip:
    video = litellm.create_file(file=clip, purpose="user_data", custom_llm_provider="openai", **host)
answer = litellm.completion(
    model="openai/embedded",
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "does the circle appear or disappear?"},
                {"type": "file", "file": {"file_id": video.id}},
            ],
        }
    ],
    **host,
)
print(answer.choices[0].message.content)
print(answer.receipt["frames"]["timestamps"])

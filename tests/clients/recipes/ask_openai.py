from openai import OpenAI

client = OpenAI(base_url="http://localhost:8000/v1", api_key="none")
with open("clip.mp4", "rb") as clip:
    video = client.files.create(file=clip, purpose="user_data")
answer = client.chat.completions.create(
    model="embedded",
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "does the circle appear or disappear?"},
                {"type": "file", "file": {"file_id": video.id}},
            ],
        }
    ],
)
print(answer.choices[0].message.content)
print(answer.receipt["frames"]["timestamps"])

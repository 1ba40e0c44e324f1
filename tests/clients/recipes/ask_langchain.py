from base64 import b64encode
from pathlib import Path

from langchain_core.messages import HumanMessage, convert_to_openai_messages
from langchain_openai import ChatOpenAI

clip = b64encode(Path("clip.mp4").read_bytes()).decode()
model = ChatOpenAI(model="embedded", base_url="http://localhost:8000/v1", api_key="none")
question = HumanMessage(
    [
        {"type": "text", "text": "does the circle appear or disappear?"},
        {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{clip}"}},
    ]
)
print(model.invoke([question]).text)

# LangChain keeps no field that it does not know; the client that it uses does
answer = model.client.create(model=model.model_name, messages=convert_to_openai_messages([question]))
print(answer.receipt["frames"]["timestamps"])

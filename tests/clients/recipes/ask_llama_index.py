from pathlib import Path

from llama_index.core.llms import ChatMessage, DocumentBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike

model = OpenAILike(
    model="embedded", api_base="http://localhost:8000/v1", api_key="none", is_chat_model=True, max_tokens=50
)
clip = DocumentBlock(data=Path("clip.mp4").read_bytes(), document_mimetype="video/mp4", title="clip.mp4")
question = ChatMessage(blocks=[TextBlock(text="does the circle appear or disappear?"), clip])
answer = model.chat([question])
print(answer.message.content)
print(answer.raw.receipt["frames"]["timestamps"])

"""The clients: what each is called, where its program runs, and what is installed there."""

from dataclasses import dataclass
from pathlib import Path

from tests.clients.environments import AIPERF, HERE, NODE, OPENAI2, OPENAI3, Environment

RECIPES = HERE / "recipes"


@dataclass(frozen=True, slots=True)
class Column:
    """A client: `program` says what it can, and `package` of `environment` which version it is.

    `model` is what it calls the model, where that is not the server's own name.
    """

    name: str
    environment: Environment
    package: str
    program: str
    model: str = ""
    is_gateway: bool = False
    recipe: str = ""

    @property
    def version(self) -> str:
        """Of what is not installed, the version whose requests these are."""
        is_installed = self.package and not self.package[0].isdigit()
        return self.environment.version(self.package) if is_installed else self.package

    @property
    def recipe_file(self) -> Path | None:
        return RECIPES / self.recipe if self.recipe else None


COLUMNS = (
    Column("openai-python 3", OPENAI3, "openai", "openai_python.py", recipe="ask_openai.py"),
    Column("openai-python 2", OPENAI2, "openai", "openai_python.py"),
    Column("openai-npm", NODE, "openai", "openai_node.mjs", recipe="ask_openai.mjs"),
    Column(
        "LiteLLM `openai/`", OPENAI3, "litellm", "litellm_sdk.py", "openai/embedded", recipe="ask_litellm.py"
    ),
    Column("LiteLLM `hosted_vllm/`", OPENAI3, "litellm", "litellm_sdk.py", "hosted_vllm/embedded"),
    Column(
        *("LiteLLM proxy `openai/`", OPENAI3, "litellm", "litellm_proxy.py", "openai", True),
        recipe="ask_litellm_proxy.sh",
    ),
    Column("LiteLLM proxy `hosted_vllm/`", OPENAI3, "litellm", "litellm_proxy.py", "vllm", is_gateway=True),
    Column("LangChain", OPENAI3, "langchain-openai", "langchain_chat.py", recipe="ask_langchain.py"),
    Column(
        *("LlamaIndex", OPENAI2, "llama-index-llms-openai-like", "llama_index_chat.py"),
        recipe="ask_llama_index.py",
    ),
    Column("AI SDK", NODE, "ai", "ai_sdk.mjs", recipe="ask_ai_sdk.mjs"),
    Column("llm", OPENAI3, "llm", "llm_command.py", recipe="ask_llm.sh"),
    Column("Open WebUI's requests", OPENAI3, "0.12.4", "open_webui.py"),
    Column("AIPerf", AIPERF, "aiperf", "aiperf_profile.py"),
    Column("curl", OPENAI3, "", "curl.py", recipe="ask_curl.sh"),
)

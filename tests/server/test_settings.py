"""Where a setting may be written, which place counts, and what is refused."""

import ast
import inspect
from pathlib import Path

import pytest
from cyclopts import App

import server
from bt_model.errors import InvalidValueError
from server.command.serve import serve
from server.command.sources import PREFIX, load_settings
from server.settings import Group, Settings
from tests.server.settings_page import ENVIRONMENT, PAGE, environment, page


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    folder = tmp_path / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("server.command.sources.SECRETS_DIR", folder / "secrets")


def loaded(*flags: str) -> Settings:
    """The settings of `btchat serve` with these flags."""
    _, bound, _ = App(default_command=serve).parse_args(flags, exit_on_error=False, print_error=False)
    groups = [value for value in bound.arguments.values() if isinstance(value, Group)]
    return load_settings(groups, bound.arguments.get("config"))


def test_flags_override_the_environment_which_overrides_the_file_which_overrides_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, secrets = tmp_path / "settings.toml", tmp_path / "secrets"
    secrets.mkdir()
    for name in ("host", "port", "model", "device"):
        (secrets / f"btchat_{name}").write_text("7\n")
    file.write_text('host = "file"\nport = 1\nmodel = "file"\n')
    for name, value in {"PORT": "2", "MODEL": "environment", "SECRETS_DIR": str(secrets)}.items():
        monkeypatch.setenv(f"BTCHAT_{name}", value)
    settings = loaded("--config", str(file), "--model", "flag")
    found = settings.device, settings.host, settings.port, settings.model, settings.decoder
    assert found == ("7", "file", 2, ("flag",), "pyav")


@pytest.mark.parametrize(
    ("flags", "variable"),
    [
        (["--model", "a", "--model", "b/c"], None),
        (["--model", "a,b/c"], None),
        ([], "a, b/c,"),
        (["--model", "a", "--model", "b/c"], "d"),
    ],
)
def test_several_models_may_be_named_in_two_ways(
    flags: list[str], variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("BTCHAT_MODEL", variable)
    assert loaded(*flags).model == ("a", "b/c")


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_secret_is_none(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("port", "dtype", "api_keys_file"):
        (tmp_path / f"btchat_{name}").write_text(content)
    monkeypatch.setenv("BTCHAT_SECRETS_DIR", str(tmp_path))
    assert load_settings() == Settings()


def test_an_empty_name_of_the_folder_of_secrets_is_not_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("btchat_port").write_text("99")
    monkeypatch.setenv("BTCHAT_SECRETS_DIR", "")
    assert load_settings().port == Settings().port


def test_several_models_may_be_named_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('model = ["a", "b"]\n')
    assert loaded("--config", str(file)).model == ("a", "b")


def test_a_file_in_the_current_folder_is_read() -> None:
    Path("btchat.toml").write_text("port = 99\n")
    assert loaded().port == 99


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PORT", "70000", "port is '70000'; allowed: a whole number, 0 to 65535"),
        ("PORT", "x", "port is 'x'; allowed: a whole number, 0 to 65535"),
        ("DECODER", "opencv", "decoder is 'opencv'; allowed: pyav, decord"),
        ("MODEL", ",", "model is ','; allowed: a list, at least 1"),
        ("DTYPE", "float8", "dtype is 'float8'; allowed: float32, bfloat16, float16"),
        ("QUANTISE", "int4", "quantise is 'int4'; allowed: none, int8, nf4"),
        ("MODEL_MEMORY_BYTES", "0", "model_memory_bytes is '0'; allowed: a whole number, 1 or more"),
        ("BODY_IDLE_SECONDS", "nan", "body_idle_seconds is 'nan'; allowed: a number, above 0"),
    ],
)
def test_a_bad_setting_is_one_line_with_what_is_allowed(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BTCHAT_{variable}", value)
    with pytest.raises(InvalidValueError) as caught:
        load_settings()
    assert caught.value.param == variable.lower()
    assert caught.value.message == message


def test_true_is_no_number(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("max_requests = true\n")
    with pytest.raises(
        InvalidValueError, match=r"^max_requests is True; allowed: a whole number, 1 or more$"
    ):
        load_settings(config=file)


def test_every_setting_is_used() -> None:
    files = [path for path in Path(server.__file__).parent.rglob("*.py") if path.name != "settings.py"]
    used = {
        node.attr
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] == "settings"
    }
    assert [name for name in Settings.model_fields if name not in used] == []


def test_an_unknown_name_is_refused_with_the_known_ones_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(InvalidValueError, match=r"^prot is not known; allowed: host, port, "):
        load_settings(config=file)
    monkeypatch.setenv("BTCHAT_PROT", "1")
    with pytest.raises(InvalidValueError, match=r"^BTCHAT_PROT is not known; allowed: BTCHAT_HOST, "):
        load_settings()


def test_a_settings_file_or_secrets_folder_that_is_missing_or_broken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.toml").write_text("port = ")
    for name in ("broken.toml", "missing.toml"):
        with pytest.raises(InvalidValueError, match=name):
            load_settings(config=tmp_path / name)
    monkeypatch.setenv("BTCHAT_SECRETS_DIR", str(tmp_path / "gone"))
    with pytest.raises(InvalidValueError, match="gone'; allowed: a folder"):
        load_settings()


def test_every_setting_has_a_description_and_a_flag() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    groups = {parameter.default for parameter in inspect.signature(serve).parameters.values()}
    flags = {name for group in groups if isinstance(group, Group) for name in type(group).model_fields}
    assert flags == set(Settings.model_fields)


def test_the_page_of_settings_and_the_example_of_an_environment_are_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make fmt writes it anew"
    assert ENVIRONMENT.read_text(encoding="utf-8") == environment(), "make fmt writes it anew"


def test_every_line_of_the_example_may_be_used_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in ENVIRONMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"#{PREFIX}"):
            name, _, value = line.removeprefix("#").partition("=")
            monkeypatch.setenv(name, value)
    loaded, default = load_settings(), Settings()
    assert loaded.model_copy(update={"weights_dir": default.weights_dir}) == default

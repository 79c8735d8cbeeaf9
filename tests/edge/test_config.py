"""store.toml: what is right is read, what is wrong is named by file, line and key."""

import re
from pathlib import Path

import pytest

from edge.cli import main
from edge.config import BadConfig, StoreConfig, load

EXAMPLE = Path(__file__).parents[2] / "docs" / "store.example.toml"

SMALL = """\
[store]
id = "S1"

[[lanes]]
id = "1"

[[lanes]]
id = "2"

[[devices]]
id = "scale-1"
protocol = "toledo-8217"
lanes = ["1"]
transport = { kind = "serial", path = "/dev/ttyS0" }
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "store.toml"
    file.write_text(text, encoding="utf-8")
    return file


def complaints(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        load(written(tmp_path, text))
    return [str(complaint).removeprefix(str(tmp_path) + "/") for complaint in caught.value.complaints]


def test_the_example_is_right_and_complete() -> None:
    config = load(EXAMPLE)
    assert config.store.id == "S0042"
    assert len(config.devices) == 7
    text = EXAMPLE.read_text(encoding="utf-8")
    for section in ("store", "bus", "limits", "cloud", "journal"):
        model = StoreConfig.model_fields[section].annotation
        for part in getattr(model, "__args__", (model,)):
            for key in getattr(part, "model_fields", {}):
                assert f"{key} =" in text or f".{key}]" in text, f"the example does not show [{section}] {key}"


def test_every_default_shown_in_the_example_is_the_default(tmp_path: Path) -> None:
    """A key that is commented out shows its default: with the comment taken away, nothing may change."""
    text = EXAMPLE.read_text(encoding="utf-8")
    shown = [line for line in text.splitlines() if line.startswith("# ") and " = " in line.split("#")[1]]
    skip = ("username", "password_file", "plain_port", "ca =", "certificate =", "key =", "groups", "probes", "profile")
    skip += ("server_name", "alpn", "pins")  # without one the host, the profile and the authorities' file count
    skip += ("edge_port", "bridge_port")  # without one there are no metrics
    skip += ("bytes_per_s", "bytes_per_hour", "messages_per_hour")  # without one the row of the link counts
    uncommented = text
    for line in shown:
        bare = line.removeprefix("# ")
        if bare.startswith(skip) or not bare.split(" = ")[0].isidentifier():
            continue
        uncommented = uncommented.replace(line, bare)
    assert uncommented.count("\n# ") < text.count("\n# ")
    changed = load(written(tmp_path, uncommented))
    as_is = load(written(tmp_path, text))
    assert changed == as_is


def test_every_relative_path_is_beside_the_file(tmp_path: Path) -> None:
    text = (
        'state_dir = "state"\n'
        + SMALL.replace("/dev/ttyS0", "twins/scale")
        + '[cloud]\nhost = "hq"\npassword_file = "hq.password"\n[cloud.tls]\n'
        + 'ca = "tls/ca.pem"\ncertificate = "/c"\nkey = "/k"\n'
    )
    config = load(written(tmp_path, text))
    assert config.state_dir == tmp_path / "state"
    assert config.devices[0].transport == {"kind": "serial", "path": str(tmp_path / "twins/scale")}
    assert config.cloud is not None
    assert config.cloud.tls is not None
    assert (config.cloud.tls.ca, config.cloud.tls.key) == (tmp_path / "tls/ca.pem", Path("/k"))
    assert config.cloud.password_file == tmp_path / "hq.password"
    assert config.file == tmp_path / "store.toml"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('id = "S1"', 'id = "S 1"'), "store.toml:2: store.id: "),
        (('id = "S1"', 'id = "S1"\ncolour = "red"'), "store.toml:3: store.colour: is not a key that is known here"),
        (('id = "S1"', 'id = "S1"\ntimezon = "UTC"'), "did you mean 'timezone'?"),
        (('id = "S1"', 'id = "S1"\ntimezone = "Mars"'), "store.toml:3: store.timezone: not a time zone"),
        (('[store]\nid = "S1"', "[store]"), "store.toml:1: store.id: is missing"),
        (('id = "2"', 'id = "1"'), "store.toml:8: lanes[1].id: there is a lane '1' already"),
        (('lanes = ["1"]', 'lanes = ["9"]'), "store.toml:13: devices[0].lanes: there is no lane '9'; lanes: 1, 2"),
        (("toledo-8217", "toledo"), "store.toml:12: devices[0].protocol: there is no protocol 'toledo'; known: "),
        (('kind = "serial"', 'kind = "usb"'), "store.toml:14: devices[0].transport.kind: is 'usb'"),
        (('path = "/dev/ttyS0"', "path = 7"), "store.toml:14: devices[0].transport.path: is 7; expected a text"),
        (('path = "/dev/ttyS0"', 'path = "/dev/ttyS0", bauds = 1'), "devices[0].transport.bauds: is not known here"),
        (('transport = { kind = "serial", path = "/dev/ttyS0" }', ""), "devices[0].transport: is missing"),
        (("[store]", "[store"), "store.toml:1: is not TOML"),
        (
            ('id = "S1"', 'id = "S1"\n[bus]\nport = 0'),
            "store.toml:4: bus.port: 0 is no listener, and there is no",
        ),
        (('id = "S1"', 'id = "S1"\n[bus]\nplain_port = 8883'), "store.toml:4: bus.plain_port: is the port of TLS"),
        (('id = "S1"', 'id = "S1"\n[bus]\nport = 99999'), "store.toml:4: bus.port: "),
        (
            ('id = "S1"', 'id = "S1"\n[cloud]\nhost = "h"\nprice_key = "abc"'),
            "store.toml:5: cloud.price_key[0]: not an Ed",
        ),
        (('id = "S1"', 'id = "S1"\n[cloud]\nhost = "h"\nprofile = "bunny"'), "store.toml:5: cloud.profile: "),
        (('id = "S1"', 'id = "S1"\n[cloud]\nhost = "h"\nwire = "single"'), "store.toml:5: cloud.wire: single events"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    found = complaints(tmp_path, SMALL.replace(*change, 1))
    assert any(expected in complaint for complaint in found), found


@pytest.mark.parametrize(
    ("usb", "key", "expected"),
    [
        ('vendor = "403", product = "6001"', "transport.usb.vendor", "expected four hex digits"),
        ('vendor = "0403", product = "6001", port = 1', "transport.usb.port", "expected a text"),
        ('vendor = "0403", product = "6001", colour = "red"', "transport.usb.colour", "known are vendor, product"),
    ],
)
def test_a_device_named_by_identity_is_checked(tmp_path: Path, usb: str, key: str, expected: str) -> None:
    named = 'kind = "serial", usb = { vendor = "0403", product = "6001", serial = "AL00ITFV" }'
    text = SMALL.replace('kind = "serial", path = "/dev/ttyS0"', named)
    load(written(tmp_path, text))
    (complaint,) = complaints(tmp_path, text.replace('vendor = "0403", product = "6001", serial = "AL00ITFV"', usb))
    assert f"devices[0].{key}: " in complaint
    assert expected in complaint


def test_two_devices_may_not_mean_the_same_usb_device(tmp_path: Path) -> None:
    usb = 'kind = "serial", usb = { vendor = "0403", product = "6001", port = "1-1.2" }'
    text = SMALL.replace('kind = "serial", path = "/dev/ttyS0"', usb)
    second = text[text.index("[[devices]]") :].replace("scale-1", "scale-2")
    load(written(tmp_path, text + second.replace("1-1.2", "1-1.3")))
    (complaint,) = complaints(tmp_path, text + second)
    assert "one device could be taken for this and for 'scale-1'; tell them apart by serial or port" in complaint
    both = text.replace('path = "/dev/ttyS0"', "").replace('port = "1-1.2" }', 'port = "1-1.2" }, path = "/dev/ttyS0"')
    assert "expected either path" in complaints(tmp_path, both)[0]
    neither = SMALL.replace('path = "/dev/ttyS0"', "baud = 9600")
    assert "transport.path: expected either path" in complaints(tmp_path, neither)[0]


@pytest.mark.parametrize("profile", ["nats", "rabbitmq"])
def test_no_dots_in_ids_where_the_cloud_broker_parts_topics_by_them(tmp_path: Path, profile: str) -> None:
    text = re.sub(r'(\[store\]\nid = )"[^"]*"', r'\1"de.S1"', SMALL)
    cloud = f'[cloud]\nhost = "h"\nprofile = "{profile}"\ngroups = ["north", "north.east"]\n'
    first, second = complaints(tmp_path, text + cloud)
    assert "store.id: 'de.S1' has a dot" in first
    assert "cloud.groups[1]: 'north.east' has a dot" in second
    load(written(tmp_path, text + cloud.replace(profile, "emqx")))


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = SMALL.replace('lanes = ["1"]', 'lanes = ["9"]').replace("toledo-8217", "nothing")
    assert len(complaints(tmp_path, text)) == 2


def test_variable_measure_codes_must_come_to_thirteen_digits(tmp_path: Path) -> None:
    keys = ('prefix = "21"', "item_digits = 4", 'value = "price"', "value_digits = 5", "decimals = 2", "")
    table = "[[scanning.variable_measure]]\n" + "\n".join(keys)
    assert any("must be 13" in complaint for complaint in complaints(tmp_path, SMALL + table))
    assert load(written(tmp_path, SMALL + table + "verifier = true\n")).scanning.variable_measure[0].verifier
    counted = table.replace('"price"', '"count"') + "verifier = true\n"
    assert any("no decimals" in complaint for complaint in complaints(tmp_path, SMALL + counted))
    wide = table.replace("value_digits = 5", "value_digits = 3").replace("item_digits = 4", "item_digits = 6")
    assert any("4 or 5 digits" in text for text in complaints(tmp_path, SMALL + wide + "verifier = true\n"))


@pytest.mark.parametrize("carrier", ["printer-2", "scale-1"])
def test_a_device_behind_another_needs_one_that_can_carry_it(tmp_path: Path, carrier: str) -> None:
    """Neither a name that is not there nor a device of another kind will do."""
    text = (
        SMALL
        + """
[[devices]]
id = "printer-1"
protocol = "escpos-printer"
lanes = ["1"]
transport = { kind = "tcp", host = "192.0.2.7" }

[[devices]]
id = "drawer-1"
protocol = "printer-drawer"
lanes = ["1"]
options = { printer = "PRINTER" }
"""
    )
    load(written(tmp_path, text.replace("PRINTER", "printer-1")))
    (complaint,) = complaints(tmp_path, text.replace("PRINTER", carrier))
    assert f"there is no printer '{carrier}' that could carry it; devices that can: printer-1" in complaint
    assert complaint.startswith("store.toml:26: devices[2].options.printer: ")


@pytest.mark.parametrize(
    ("protocol", "first", "second", "complaint"),
    [
        ("printer-drawer", "pin = 2", "pin = 5", None),
        ("printer-drawer", "pin = 2", "pin = 2", "options.pin: is 2, which opens another drawer"),
        ("printer-drawer", 'open_when = "high"', 'pin = 5, open_when = "low"', "options.open_when: is 'low'"),
        ("printer-display", "rows = 2", "rows = 2", "options.printer: is 'printer-1', which has a display"),
    ],
)
def test_two_on_one_printer(tmp_path: Path, protocol: str, first: str, second: str, complaint: str | None) -> None:
    text = (
        SMALL
        + """
[[devices]]
id = "printer-1"
protocol = "escpos-printer"
lanes = ["1"]
transport = { kind = "tcp", host = "192.0.2.7" }
"""
    )
    for number, options in enumerate((first, second), 1):
        text += f"""
[[devices]]
id = "behind-{number}"
protocol = "{protocol}"
lanes = ["1"]
options = {{ printer = "printer-1", {options} }}
"""
    if complaint is None:
        load(written(tmp_path, text))
    else:
        (found,) = complaints(tmp_path, text)
        assert complaint in found
        assert "(behind-1)" in found


def test_check_tells_of_secrets_that_others_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, mode in (("store.key", 0o640), ("store.pem", 0o644), ("password", 0o600)):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(mode)
    text = (
        EXAMPLE.read_text().replace("tls/", "").replace('# password_file = "/etc/tillgate/cloud.', 'password_file = "')
    )
    (tmp_path / "store.toml").write_text(text)
    assert main(["check", str(tmp_path / "store.toml")]) == 0
    said = capsys.readouterr().out
    assert f"store.key can be read by others than its owner; chmod 600 {tmp_path / 'store.key'}" in said
    assert "[cloud.tls] ca" in said
    assert "store.pem" not in said.replace("store.toml", "")
    assert "password" not in said


def test_check_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLE)]) == 0
    assert "good" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "missing.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        ('id = "p2"\nlanes = ["1", "2"]', None),
        ('id = "p3"\nlanes = ["1", "2"]', "there is no other escpos-printer 'p2' in this store"),
        ('id = "p2"\nlanes = ["2"]', "p2 does not serve lanes 1; add them to its lanes"),
        ('id = "p2"\nlanes = ["1", "2"]\noptions = { model = "TM-T20II" }', "both must be alike"),
    ],
)
def test_a_printer_stands_in_only_for_one_of_its_kind(tmp_path: Path, second: str, complaint: str | None) -> None:
    text = f"""
[store]
id = "S1"
[[lanes]]
id = "1"
[[lanes]]
id = "2"
[[devices]]
id = "p1"
protocol = "escpos-printer"
lanes = ["1"]
transport = {{ kind = "tcp", host = "192.0.2.1" }}
failover = "p2"
[[devices]]
protocol = "escpos-printer"
transport = {{ kind = "tcp", host = "192.0.2.2" }}
{second}
"""
    if complaint is None:
        assert load(written(tmp_path, text)).devices[0].failover_after_s == 5.0
        return
    with pytest.raises(BadConfig, match=r"devices.0..failover: ") as caught:
        load(written(tmp_path, text))
    assert complaint in str(caught.value)


def test_several_printers_on_usb_are_named(tmp_path: Path) -> None:
    text = '[store]\nid = "S1"\n[[lanes]]\nid = "1"\n'
    for number in (1, 2):
        text += f"""
[[devices]]
id = "p{number}"
protocol = "escpos-printer"
lanes = ["1"]
transport = {{ kind = "usb" }}
"""
    with pytest.raises(BadConfig, match=r"devices.1..transport: there are several printers on USB") as caught:
        load(written(tmp_path, text))
    assert len(caught.value.complaints) == 2

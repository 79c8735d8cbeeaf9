"""PUBLISH and PUBACK against bytes written from the standard, whole, in pieces and damaged; and addresses."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.address import Address, TlsFiles
from edge.bus.packets import (
    Framer,
    Malformed,
    PublishProperties,
    decode_properties,
    decode_puback,
    decode_publish,
    encode_properties,
    encode_puback,
    encode_publish,
    join,
)

# MQTT 5, section 3.3: QoS 1, retained, topic "a/b", id 10, expiry 3, user property k=v, payload "hi".
PUBLISH_5 = bytes.fromhex("33 16 0003 612F62 000A 0C 02 00000003 26 0001 6B 0001 76") + b"hi"
PUBLISH_4 = bytes.fromhex("32 09 0003 612F62 000A") + b"hi"


def test_a_publish_is_written_as_the_standard_draws_it() -> None:
    properties = encode_properties(3, None, None, {"k": "v"})
    parts = {"qos": 1, "duplicate": False, "packet_id": 10}
    assert encode_publish(b"a/b", b"hi", retain=True, properties=properties, **parts) == PUBLISH_5  # type: ignore[arg-type]
    assert encode_publish(b"a/b", b"hi", retain=False, properties=None, **parts) == PUBLISH_4  # type: ignore[arg-type]
    again = encode_publish(b"a", b"", qos=1, retain=False, duplicate=True, packet_id=1, properties=None)
    assert again == bytes.fromhex("3A 05 0001 61 0001")


def test_a_publish_is_read_as_the_standard_draws_it() -> None:
    five = decode_publish(PUBLISH_5[0], PUBLISH_5[2:], 5)
    assert (five.topic, five.payload, five.qos, five.retain, five.packet_id) == (b"a/b", b"hi", 1, True, 10)
    assert decode_properties(five.properties) == PublishProperties(None, None, 3, (("k", "v"),))
    four = decode_publish(PUBLISH_4[0], PUBLISH_4[2:], 4)
    assert (four.topic, four.payload, four.retain, four.properties) == (b"a/b", b"hi", False, b"")


def test_properties_that_say_nothing_to_us_are_skipped() -> None:
    packed = bytes.fromhex("01 01  03 0004 6A736F6E  0B 8001  08 0001 72  09 0002 0001")
    assert decode_properties(packed) == PublishProperties("r", b"\x00\x01", None, ())


@pytest.mark.parametrize(
    "packed", ["7E", "02 0000", "26 0001 6B", "08 0005 61", "23 0001", "08 0001 FF", "0B FFFFFFFF01"]
)
def test_damaged_properties_are_malformed(packed: str) -> None:
    with pytest.raises(Malformed):
        decode_properties(bytes.fromhex(packed))


def test_a_puback_says_its_reason_or_means_success() -> None:
    assert encode_puback(0x1234) == bytes.fromhex("40 02 1234")
    assert decode_puback(bytes.fromhex("1234")) == (0x1234, 0)
    assert decode_puback(bytes.fromhex("1234 87 00")) == (0x1234, 0x87)
    with pytest.raises(Malformed):
        decode_puback(b"\x01")


@given(
    st.lists(st.tuples(st.integers(0, 255), st.one_of(st.binary(max_size=300), st.just(b"x" * 20_000))), max_size=8),
    st.lists(st.integers(1, 9_000), max_size=40),
)
def test_packets_come_out_whole_wherever_the_stream_is_cut(packets: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(join(*packet) for packet in packets)
    framer, out, at = Framer(1_000_000), [], 0
    for cut in [*cuts, len(stream)]:
        out += framer.feed(stream[at : at + cut])
        at += cut
    assert out == packets


def test_packets_come_out_whole_byte_by_byte() -> None:
    packets = [(0x30, b"x" * 130), (0xD0, b""), (0x40, b"\x00\x01"), (0x30, b"y" * 17_000)]
    framer = Framer(1_000_000)
    stream = b"".join(join(*packet) for packet in packets)
    assert [packet for byte in stream for packet in framer.feed(bytes([byte]))] == packets


def test_a_packet_above_the_limit_is_refused_before_it_is_there() -> None:
    with pytest.raises(Malformed, match="were agreed"):
        Framer(1_000).feed(join(0x30, b"x" * 2_000)[:5])
    with pytest.raises(Malformed, match="four bytes"):
        Framer(1_000).feed(b"\x30\xff\xff\xff\xff\x01")


@given(st.integers(0, 255), st.binary(max_size=60), st.sampled_from([4, 5]))
def test_rubbish_is_read_or_refused_and_never_anything_else(header: int, body: bytes, version: int) -> None:
    with contextlib.suppress(Malformed):
        decode_properties(decode_publish(header, body, version).properties)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("gateway", Address(host="gateway", port=1883)),
        ("10.0.0.7:1884", Address(host="10.0.0.7", port=1884)),
        ("[fd00::2]:1883", Address(host="fd00::2", port=1883)),
        ("mqtt://gateway", Address(host="gateway", port=1883)),
        ("mqtts://gateway", Address(host="gateway", port=8883, tls=TlsFiles())),
        ("unix:/run/tillgate/b.sock", Address.parse("unix:///run/tillgate/b.sock")),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "unix:", "http://x", "x:0", "x:99999", "x:y", "mqtt://", "mqtt://u:p@x", "mqtt://x/a", "://"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Address.parse(text)
    with pytest.raises(ValueError, match="either"):
        Address()

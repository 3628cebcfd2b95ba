import io

import joblib
import numpy as np
import pytest
from joblib.externals.loky.process_executor import BrokenProcessPool
from PIL import Image
from small_folders import noise, save

from foldwise.base.errors import FoldwiseError
from foldwise.sources import pictures

COLOURS, GREY = noise(0, 8, 8, 3), noise(1)


@pytest.fixture
def decode(parameters, tmp_path):
    """Decode files of a folder, all of it by default; changes are of the section data."""

    def decode(*names, **changes):
        data = parameters({f"data.{name}": value for name, value in changes.items()}).data
        found = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".npy")
        return pictures.decode(tmp_path, names or found, data, tmp_path / "decoded.npy")

    return decode


def near(found, expected, most):
    return found.shape == expected.shape and np.abs(found.astype(int) - expected.astype(int)).max() <= most


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.png", {}),
        ("a.tiff", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.tif", {"compression": "tiff_deflate"}),
        ("a.bmp", {}),
        ("a.webp", {"lossless": True}),
        ("a.ppm", {}),
        ("a.tga", {}),
        ("a.jp2", {}),
        ("a.pcx", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_kinds_without_loss_give_the_pixels_themselves(decode, tmp_path, name, how):
    save(tmp_path / name, COLOURS, **how)
    assert np.array_equal(decode().pixels[0], np.moveaxis(COLOURS, -1, 0))


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp", "a.avif"])
def test_kinds_with_loss_give_nearly_the_pixels(decode, tmp_path, name):
    smooth = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None] * 10, (16, 16, 3))
    save(tmp_path / name, smooth, quality=95)
    assert near(decode().pixels[0], np.moveaxis(smooth, -1, 0), 12)


@pytest.mark.parametrize(("name", "fit"), [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})])
def test_the_first_picture_of_an_animation_is_taken(decode, tmp_path, name, fit):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **fit)
    assert np.array_equal(decode(channels=1).pixels[0, 0], GREY)


def test_the_first_page_of_a_tiff_is_taken(decode, tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    assert np.array_equal(decode().pixels[0, 0], GREY)


def test_the_kind_is_told_by_the_content_not_by_the_ending(decode, tmp_path):
    save(tmp_path / "a.jpg", GREY, format="PNG")
    assert np.array_equal(decode().pixels[0, 0], GREY)


def test_black_and_white_is_grey(decode, tmp_path):
    Image.fromarray(GREY > 127).save(tmp_path / "a.png")
    assert np.array_equal(decode().pixels[0, 0], np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp"])
def test_a_palette_of_greys_is_grey(decode, tmp_path, name):
    Image.fromarray(GREY).convert("P").save(tmp_path / name)
    assert np.array_equal(decode().pixels[0], GREY[None])


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp", "a.tif"])
def test_a_palette_of_colours_gives_colours(decode, tmp_path, name):
    picture = Image.fromarray(COLOURS).quantize(16)
    picture.save(tmp_path / name)
    assert np.array_equal(decode().pixels[0], np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0))


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_transparent_place_of_a_palette_is_white(decode, tmp_path, name):
    places = np.arange(64, dtype=np.uint8).reshape(8, 8) % 4
    picture = Image.fromarray(places).convert("P")
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    picture.save(tmp_path / name, transparency=0)
    decoded = decode()
    assert (decoded.pixels[0][:, places == 0] == 255).all()
    assert decoded.pixels[0][:, places == 1].T.tolist() == [[200, 0, 0]] * 16
    assert "1 laid on white" in decoded.notes[0]


@pytest.mark.parametrize(("mode", "grey"), [("1", 0), ("L", 0), ("RGB", (0, 0, 0))])
def test_a_transparent_colour_is_white(decode, tmp_path, mode, grey):
    black = Image.new(mode, (8, 8))
    black.putpixel((3, 2), 1 if mode == "1" else (9 if mode == "L" else (9, 9, 9)))
    black.save(tmp_path / "a.png", transparency=grey)
    found = decode().pixels[0, 0]
    assert (found == 255).sum() == (64 if mode == "1" else 63)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_shines_through_is_laid_on_white(decode, tmp_path, name, channels):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4, 3], pixels[:4, :4, 3] = 128, 255
    save(tmp_path / name, pixels, **({"lossless": True, "exact": True} if name == "a.webp" else {}))
    found = decode(channels=channels).pixels[0]
    assert found.shape == (channels, 8, 8)
    assert set(found[:, :4, :4].ravel()) == {0}
    assert set(found[:, 4:, :4].ravel()) == {127}
    assert set(found[:, :, 4:].ravel()) == {255}


def test_grey_that_shines_through_is_grey(decode, tmp_path):
    save(tmp_path / "a.png", np.stack([np.full_like(GREY, 100), GREY], axis=-1))
    found, alpha = decode().pixels[0], GREY / 255
    assert near(found, (100 * alpha + 255 * (1 - alpha))[None], 1)


@pytest.mark.parametrize(("channels", "expected"), [(3, [255, 0, 0]), (1, [76])])
def test_a_jpeg_for_print_gives_colours(decode, tmp_path, channels, expected):
    Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert Image.open(tmp_path / "a.jpg").mode == "CMYK"
    assert near(decode(channels=channels).pixels[0, :, 8, 8], np.array(expected), 3)


DEEP = np.random.default_rng(2).integers(0, 2**16, (8, 8), dtype=np.uint16)


def deep_tiff(path, values, order):
    """Write 16-bit grey by hand, in either order of bytes."""
    mark, kind = {"little": (b"II", "<"), "big": (b"MM", ">")}[order]
    height, width = values.shape
    entries = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries.append((279, values.nbytes))
    number = {"little": "<u2", "big": ">u2"}[order]
    content = mark + np.array([42], number).tobytes() + np.array([8 + values.nbytes], f"{kind}u4").tobytes()
    content += values.astype(number).tobytes() + np.array([len(entries)], number).tobytes()
    for tag, value in entries:
        content += np.array([tag, 4], number).tobytes() + np.array([1, value], f"{kind}u4").tobytes()
    path.write_bytes(content + bytes(4))


@pytest.mark.parametrize("values", [DEEP, DEEP // 16, np.maximum(DEEP // 2**7, 2)], ids=["16", "12", "9"])
@pytest.mark.parametrize("kind", ["little", "big", "png"])
def test_deep_grey_is_scaled_by_its_bits(decode, tmp_path, values, kind):
    if kind == "png":
        save(tmp_path / "a.png", values)
    else:
        deep_tiff(tmp_path / "a.tif", values, kind)
    bits = int(values.max()).bit_length()
    decoded = decode()
    assert decoded.pixels[0].tolist() == [np.floor(values.astype(int) * 255 / (2**bits - 1) + 0.5).astype(int).tolist()]
    assert f"1 brought from {bits} bits to 8" in decoded.notes[0]


def test_all_deep_images_are_scaled_alike_and_others_stay(decode, tmp_path):
    save(tmp_path / "a.png", np.full((8, 8), 4095, np.uint16))
    save(tmp_path / "b.png", np.full((8, 8), 100, np.uint16))
    save(tmp_path / "c.png", np.full((8, 8), 100, np.uint8))
    assert decode().pixels[:, 0, 0, 0].tolist() == [255, 6, 100]


def test_deep_files_of_eight_bits_stay_as_they_are(decode, tmp_path):
    save(tmp_path / "a.png", GREY.astype(np.uint16))
    assert np.array_equal(decode().pixels[0, 0], GREY)


UPRIGHT = noise(3, 6, 10)
# What lies where the first row and the first column are, by the EXIF standard.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: UPRIGHT[:, ::-1].T,
    7: UPRIGHT[::-1, ::-1].T,
    8: UPRIGHT[::-1].T,
}


def with_orientation(path, pixels, orientation, **how):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, np.ascontiguousarray(pixels), exif=exif, **how)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("name", "most"), [("a.png", 0), ("a.tif", 0), ("a.webp", 0), ("a.jpg", 8)])
def test_a_picture_is_turned_as_its_exif_says(decode, tmp_path, orientation, name, most):
    how = {"a.webp": {"lossless": True}, "a.jpg": {"quality": 100}}.get(name, {})
    with_orientation(tmp_path / name, STORED[orientation], orientation, **how)
    decoded = decode(channels=1)
    assert near(decoded.pixels[0, 0], UPRIGHT, most)
    assert ("turned as their EXIF says" in decoded.notes[0]) == (orientation > 1)
    assert "padded" not in decoded.notes[0]


def test_deep_grey_is_turned_too(decode, tmp_path):
    with_orientation(tmp_path / "a.png", STORED[6].astype(np.uint16) * 257, 6)
    assert np.array_equal(decode().pixels[0, 0], UPRIGHT)


def test_a_picture_is_turned_as_xmp_says_where_it_has_no_exif(decode, tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    save(tmp_path / "a.jpg", np.ascontiguousarray(STORED[6]), quality=100, xmp=xmp)
    decoded = decode()
    assert near(decoded.pixels[0, 0], UPRIGHT, 8)
    assert "1 turned as their EXIF says" in decoded.notes[0]


def test_damaged_exif_is_no_matter(decode, tmp_path):
    content = save(tmp_path / "a.jpg", UPRIGHT, quality=100).read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[:2] + b"\xff\xe1\0\x12Exif\0\0damaged!!!" + content[2:])
    assert near(decode().pixels[0, 0], UPRIGHT, 8)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_turns_nothing(decode, tmp_path, orientation):
    with_orientation(tmp_path / "a.png", UPRIGHT, orientation)
    decoded = decode()
    assert np.array_equal(decoded.pixels[0, 0], UPRIGHT)
    assert decoded.notes == ["1 images, all 6 x 10, grey"]


STRIPES = np.repeat(np.array([[50, 100, 100, 150]], np.uint8), 4, axis=1).repeat(8, axis=0)


def test_a_padded_picture_is_whole_in_the_middle_of_black(decode, tmp_path):
    save(tmp_path / "a.png", STRIPES)
    found = decode(image_size=8, resize="pad").pixels[0, 0]
    assert not found[[0, 1, 6, 7]].any()
    assert found[2:6, [0, 4, 7]].tolist() == [[50, 100, 150]] * 4


def test_a_cropped_picture_is_its_middle(decode, tmp_path):
    save(tmp_path / "a.png", STRIPES)
    assert set(decode(image_size=8, resize="crop").pixels[0, 0].ravel()) == {100}


def test_a_stretched_picture_is_whole_and_fills_all(decode, tmp_path):
    save(tmp_path / "a.png", STRIPES)
    assert decode(image_size=8, resize="stretch").pixels[0, 0][:, [0, 4, 7]].tolist() == [[50, 100, 150]] * 8


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5000), (5000, 2), (1, 7)])
def test_the_oddest_sizes_are_brought_to_the_one(decode, tmp_path, shape, resize):
    save(tmp_path / "a.png", np.full(shape, 200, np.uint8))
    assert decode(resize=resize).pixels.shape == (1, 1, 64, 64)
    assert decode(resize=resize).pixels.max() == 200


@pytest.mark.parametrize(
    ("shapes", "image_size", "expected"),
    [
        ([(8, 8), (8, 8)], None, (8, 8)),
        ([(4, 128), (4, 128)], None, (4, 128)),
        ([(8, 8), (8, 9)], None, (64, 64)),
        ([(8, 9), (9, 8)], None, (64, 64)),
        ([(129, 8), (129, 8)], None, (64, 64)),
        ([(3, 3), (3, 3)], None, (64, 64)),
        ([(8, 8), (8, 8)], 16, (16, 16)),
        ([(8, 8), (20, 9)], [12, 20], (12, 20)),
    ],
)
def test_equal_and_small_images_keep_their_size_and_others_do_not(decode, tmp_path, shapes, image_size, expected):
    for seed, shape in enumerate(shapes):
        save(tmp_path / f"{seed}.png", noise(seed, *shape))
    assert decode(image_size=image_size).pixels.shape == (2, 1, *expected)


@pytest.mark.parametrize(
    ("files", "channels", "expected"),
    [
        ([GREY, GREY], None, 1),
        ([GREY, COLOURS], None, 3),
        ([COLOURS, COLOURS], 1, 1),
        ([GREY, GREY], 3, 3),
    ],
)
def test_there_are_three_channels_if_any_image_has_colours_or_they_are_asked_for(
    decode, tmp_path, files, channels, expected
):
    for place, pixels in enumerate(files):
        save(tmp_path / f"{place}.png", pixels)
    assert decode(channels=channels).pixels.shape[1] == expected


def test_grey_in_three_channels_is_the_same_in_each(decode, tmp_path):
    save(tmp_path / "a.png", GREY)
    assert np.array_equal(decode(channels=3).pixels[0], np.stack([GREY] * 3))


def test_what_was_done_is_told_in_counts(decode, tmp_path):
    save(tmp_path / "a.png", noise(0, 64, 64))
    save(tmp_path / "b.png", noise(1, 8, 8))
    save(tmp_path / "c.png", noise(2, 128, 64))
    save(tmp_path / "d.png", noise(3, 64, 64, 3))
    save(tmp_path / "e.png", noise(4, 64, 64, 4))
    with_orientation(tmp_path / "f.png", noise(5, 64, 64), 3)
    assert decode().notes == [
        "6 images, all 64 x 64, colours: 1 enlarged, 1 made smaller, 1 padded, 1 turned as their EXIF says, "
        "1 laid on white, 4 made of three channels"
    ]
    assert "2 made grey" in decode(channels=1).notes[0]
    assert "1 cropped" in decode(resize="crop").notes[0]
    assert "1 stretched" in decode(resize="stretch").notes[0]


def test_nothing_done_is_told_too(decode, tmp_path):
    save(tmp_path / "a.png", GREY)
    assert decode().notes == ["1 images, all 8 x 8, grey"]


@pytest.fixture
def three(tmp_path):
    """Have two images and, between them, a file that is none."""
    save(tmp_path / "a.png", GREY)
    (tmp_path / "b.png").write_text("no image")
    save(tmp_path / "c.png", 255 - GREY)


def test_files_that_cannot_be_read_end_it(three, decode, tmp_path):
    with pytest.raises(FoldwiseError) as caught:
        decode()
    assert str(caught.value) == (
        f"{tmp_path}: 1 of 3 files cannot be used: b.png is no image: mend or remove it, or set data.broken to skip"
    )


def test_files_that_cannot_be_read_are_skipped_on_request(three, decode):
    decoded = decode(broken="skip")
    assert decoded.whole.tolist() == [True, False, True]
    assert np.array_equal(decoded.pixels[2, 0], 255 - GREY)
    assert decoded.notes == ["2 images, all 8 x 8, grey", "1 of 3 files cannot be used: b.png is no image; left out"]


def test_a_file_that_shows_its_damage_late_is_skipped_too(three, decode, tmp_path):
    content = save(tmp_path / "d.jpg", noise(4, 64, 64), quality=95).read_bytes()
    (tmp_path / "d.jpg").write_bytes(content[: len(content) // 2])
    decoded = decode(broken="skip", image_size=8)
    assert decoded.whole.tolist() == [True, False, True, False]
    assert "d.jpg is cut off or damaged" in decoded.notes[1]


def test_a_file_that_cannot_be_opened_is_told_with_the_systems_reason(decode, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    save(tmp_path / "a.png", GREY)
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(FoldwiseError, match=r"a\.png cannot be read \(Permission denied\): mend or remove it"):
        decode()


def test_what_the_system_says_of_a_path_is_told(decode):
    with pytest.raises(FoldwiseError, match=r"a\.png cannot be read \(File name too long\): mend or remove it"):
        decode("a" * 300 + "a.png")


def test_rows_are_in_the_order_of_the_names(decode, tmp_path):
    for seed in range(5):
        save(tmp_path / f"{seed}.png", noise(seed))
    names = [f"{seed}.png" for seed in (3, 0, 4, 1)]
    assert np.array_equal(decode(*names).pixels[:, 0], [noise(seed) for seed in (3, 0, 4, 1)])


def test_equal_bytes_whatever_the_number_of_workers(decode, tmp_path, monkeypatch):
    for seed in range(7):
        save(tmp_path / f"{seed}.jpg", noise(seed, 9 + seed, 20, 3))
    found = []
    for chunk, workers in ((200, 8), (1, 1), (3, 1), (3, 2)):
        monkeypatch.setattr(pictures, "_CHUNK", chunk)
        monkeypatch.setattr(joblib, "effective_n_jobs", lambda _, workers=workers: workers)
        decode()
        found.append((tmp_path / "decoded.npy").read_bytes())
    assert len(set(found)) == 1


def test_progress_is_told_now_and_then(decode, tmp_path, monkeypatch, capsys):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", noise(seed))
    monkeypatch.setattr(pictures, "_CHUNK", 2)
    monkeypatch.setattr(pictures, "_SECONDS_BETWEEN_LINES", -1)
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda _: 1)
    decode()
    assert capsys.readouterr().err.splitlines() == [
        "  2 of 3 files looked at",
        "  3 of 3 files looked at",
        "  2 of 3 files read",
        "  3 of 3 files read",
    ]


def test_a_killed_worker_is_told_in_a_line(decode, tmp_path, monkeypatch):
    def die(*_, **__):
        raise BrokenProcessPool("killed")

    save(tmp_path / "a.png", GREY)
    monkeypatch.setattr(joblib, "Parallel", die)
    with pytest.raises(FoldwiseError, match=r"^a worker that reads images in .* was killed: is the memory short\?$"):
        decode()


def test_nothing_is_handed_on_to_another_program():
    assert not {"EPS", "PDF", "WMF", "FPX", "MIC"} & set(pictures.FORMATS)
    assert ".eps" not in pictures.SUFFIXES


@pytest.mark.parametrize("form", [(8, 8, 1), (8, 8, 3)])
def test_a_picture_in_memory_is_brought_to_a_form(form):
    content = io.BytesIO()
    Image.fromarray(COLOURS).save(content, "PNG")
    height, width, channels = form
    with Image.open(content) as image:
        found = pictures.pixels(image, pictures.Form(height, width, channels, "pad", 255))
    assert (found.shape, found.dtype) == ((channels, height, width), np.uint8)


def test_a_file_whose_length_has_a_16_in_it_is_not_taken_for_one_of_16_bits(decode, tmp_path):
    """Pillow keeps lengths and descriptors of JPEG 2000 files where it keeps the form of others' pixels."""
    lengths = (save(tmp_path / "a.jp2", noise(width, 8, width, 3)).stat().st_size for width in range(8, 200))
    assert any("16" in str(length) for length in lengths)
    assert decode().whole.all()

import pytest

from tovuk_kit.engines import UnknownEngine, open_database


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite://host/path", "a.db"])
async def test_an_unknown_url_is_refused(url):
    with pytest.raises(UnknownEngine):
        await open_database(url, [])

"""Path parameters with any text in them."""

from starlette.convertors import PathConvertor, register_url_convertor


class _AnyText(PathConvertor):
    """Also line ends: `path` leaves out one at the end, and matches no path with another one."""

    regex = "(?s:.*)"


register_url_convertor("any_text", _AnyText())

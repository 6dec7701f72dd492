# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How a report writes settings and numbers. What was not measured is an empty string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MINUS = "\N{MINUS SIGN}"


def setting(index: Mapping[str, Any], search: Mapping[str, Any] | None = None) -> str:
    """``HNSW M 16, efConstruction 200, ef 96``: in Milvus' words."""
    words = {**index, **(search or {})}
    kind = words.pop("type")
    return f"{kind} {', '.join(f'{key} {value}' for key, value in words.items())}".strip()


def rounded(value: float | None) -> str:
    """Three digits that count, thousands apart: 0.0512, 3.21, 1,234."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 99.95:
        text = f"{value:,.0f}"
    elif size >= 9.995:
        text = f"{value:.1f}"
    elif size >= 0.9995:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3f}" if size >= 0.0005 else ("0" if not value else f"{value:.1e}")
    return text.replace("-", MINUS, 1) if value < 0 else text


def fraction(value: float | None) -> str:
    """Of 1, four decimals."""
    return "" if value is None else f"{value:.4f}"


def whole(value: float | None) -> str:
    """A count, thousands apart."""
    return "" if value is None else f"{value:,.0f}"


def per_cent(value: float | None, digits: int = 2) -> str:
    """A share of 1 as per cent, without the sign of it; never a negative nought."""
    if value is None:
        return ""
    text = f"{100 * value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return text.replace("-", MINUS)


def any_value(value: Any) -> str:
    """Of a study, whatever it is."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return whole(value) if isinstance(value, int) else rounded(value)

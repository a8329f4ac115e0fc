"""The recipe of `fields.parquet`: python -m rib.data.fields.recipe FILE

It needs the version of Faker in the dev extra, because other versions draw other values. Each locale, class and purpose
has its own generator, so no values depend on others.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rib.data.fields import CLASSES, PRETRAINING

DOMAINS: Mapping[str, str] = {
    "us": "en_US", "uk": "en_GB", "de": "de_DE", "fr": "fr_FR", "es": "es_ES", "pl": "pl_PL", "tr": "tr_TR",
    "ru": "ru_RU", "ja": "ja_JP",
}  # fmt: skip
TUNE, TEST = 120, 60
"""Number of values per class in the tuning and the test part of a domain."""

SEVERAL = ("en_AU", "en_IN", "nl_NL", "it_IT")
MANY = (
    "sv_SE", "da_DK", "fi_FI", "cs_CZ", "ro_RO", "hu_HU", "hr_HR", "no_NO", "pt_PT", "pt_BR", "el_GR", "uk_UA", "ko_KR",
    "id_ID",
)  # fmt: skip

MONTHS: Mapping[str, str] = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
    "tr": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "sv": "januari februari mars april maj juni juli augusti september oktober november december",
    "da": "januar februar marts april maj juni juli august september oktober november december",
}

DATES: Mapping[str, tuple[str, ...]] = {
    "en_US": ("{m:02}/{d:02}/{y}", "{name} {d}, {y}", "{m}/{d}/{y2:02}"),
    "en_GB": ("{d:02}/{m:02}/{y}", "{d} {name} {y}", "{d}.{m}.{y2:02}"),
    "de_DE": ("{d:02}.{m:02}.{y}", "{d}. {name} {y}"),
    "fr_FR": ("{d:02}/{m:02}/{y}", "{d} {name} {y}", "le {d} {name} {y}"),
    "es_ES": ("{d:02}/{m:02}/{y}", "{d} de {name} de {y}", "{d}-{m}-{y}"),
    "pl_PL": ("{d:02}.{m:02}.{y}", "{d} {name} {y} r.", "{y}-{m:02}-{d:02}"),
    "tr_TR": ("{d:02}.{m:02}.{y}", "{d} {name} {y}"),
    "ru_RU": ("{d:02}.{m:02}.{y}", "{d} {name} {y} г.", "{d:02}.{m:02}.{y2:02}"),
    "ja_JP": ("{y}年{m}月{d}日", "令和{era}年{m}月{d}日", "{y}/{m:02}/{d:02}"),
    "ko_KR": ("{y}년 {m}월 {d}일", "{y}.{m}.{d}."),
    "hu_HU": ("{y}. {m:02}. {d:02}.", "{y}.{m:02}.{d:02}."),
    "sv_SE": ("{y}-{m:02}-{d:02}", "{d} {name} {y}"),
}
PLAIN = ("{d:02}.{m:02}.{y}", "{d}/{m}/{y}", "{d:02}-{m:02}-{y}")
"""Date formats of the other locales. Those in `MONTHS` also have formats with the month's name."""

PRODUCTS: Mapping[str, tuple[str, ...]] = {
    "en_US": ("???-#####", "SKU ######", "############"), "en_GB": ("??###/##", "#-#####-###", "#############"),
    "de_DE": ("Art. ###.###.##", "###-??-##", "#############"), "fr_FR": ("réf. ??####", "#####?-##", "#############"),
    "es_ES": ("ref. ###-###", "??-####-?", "#############"), "pl_PL": ("nr kat. ####", "??###-##", "590##########"),
    "tr_TR": ("Ürün ??-###", "###.??.####", "869##########"), "ru_RU": ("арт. ######", "##-####-##", "460##########"),
    "ja_JP": ("品番 ??-###", "???###?", "49###########"),
}  # fmt: skip
PLAIN_PRODUCTS = ("??-####", "###-###-##", "#############", "?####/##")

OWN_ACCOUNTS = (
    *("en_GB", "de_DE", "fr_FR", "es_ES", "pl_PL", "tr_TR", "it_IT", "nl_NL"),
    *("pt_PT", "da_DK", "fi_FI", "cs_CZ", "ro_RO", "no_NO", "el_GR", "pt_BR"),
)
"""Locales for which Faker makes national account numbers."""


JOBS: Mapping[str, tuple[str, ...]] = {
    "de_DE": (
        "{}",
        "{} (m/w/d)",
        "Leitender {}",
        "stellv. {}",
        "{} in Teilzeit",
        "{} in Ausbildung",
        "freier {}",
        "{} a. D.",
    ),
    "ja_JP": ("{}", "主任{}", "{}（見習い）", "副{}", "{}長", "元{}"),
}
"""Patterns that extend job titles in locales for which Faker has too few."""

PATIENCE = 500
"""Number of repeated values in a row after which a locale has no more values of a class."""


class Locale:
    """Values in the conventions of one country.

    Args:
        locale: Faker's name of the locale.
        purpose: seeds the draws.
    """

    def __init__(self, name: str, purpose: str) -> None:
        from faker import Faker

        self.name, self._purpose = name, purpose
        self._faker: Any = Faker(name)

    def values(self, kind: str) -> Iterator[str]:
        """Yield values of a class without duplicates, until Faker has no more."""
        seed = f"fields/{self.name}/{kind}/{self._purpose}"
        draw = random.Random(seed)
        self._faker.seed_instance(seed)
        known: set[str] = set()
        repeated = 0
        while repeated < PATIENCE:
            text = " ".join(str(getattr(self, f"_{kind}")(draw)).replace("\n", ", ").split())
            repeated += 1
            if text and text not in known:
                known.add(text)
                repeated = 0
                yield text

    def _account(self, draw: random.Random) -> str:
        if self.name in OWN_ACCOUNTS:
            number = self._faker.iban()
        else:
            number = self.name[-2:] + "".join(str(draw.randrange(10)) for _ in range(draw.choice((16, 18, 20))))
        return " ".join(number[at : at + 4] for at in range(0, len(number), 4)) if draw.random() < 0.5 else number

    def _city(self, draw: random.Random) -> str:
        city = self._faker.city()
        return city if draw.random() < 0.5 else f"{self._faker.postcode()} {city}"

    def _company(self, draw: random.Random) -> str:
        return self._faker.company()

    def _date(self, draw: random.Random) -> str:
        year, month, date = draw.randrange(1950, 2026), draw.randrange(1, 13), draw.randrange(1, 29)
        names = MONTHS.get(self.name[:2], "").split()
        patterns = DATES.get(self.name, (*PLAIN, "{d} {name} {y}") if names else PLAIN)
        return draw.choice(patterns).format(
            y=year, y2=year % 100, m=month, d=date, name=names[month - 1] if names else "", era=draw.randrange(1, 8)
        )

    def _email(self, draw: random.Random) -> str:
        return self._faker.email() if draw.random() < 0.5 else self._faker.company_email()

    def _job(self, draw: random.Random) -> str:
        return draw.choice(JOBS.get(self.name, ("{}",))).format(self._faker.job())

    def _person(self, draw: random.Random) -> str:
        return self._faker.name()

    def _phone(self, draw: random.Random) -> str:
        return self._faker.phone_number()

    def _product(self, draw: random.Random) -> str:
        pattern = draw.choice(PRODUCTS.get(self.name, PLAIN_PRODUCTS))
        letters = "ABCDEFGHKLMNPRSTUVWXYZ"
        return "".join(
            str(draw.randrange(10)) if one == "#" else draw.choice(letters) if one == "?" else one for one in pattern
        )

    def _street(self, draw: random.Random) -> str:
        return self._faker.street_address()


def domain_rows(domain: str, tune: int = TUNE, test: int = TEST) -> Iterator[tuple[str, str, str, str]]:
    """Yield domain, part, class and text of a domain's rows.

    Test values come first, so their number does not depend on the number of tuning values.
    """
    drawn = {kind: Locale(DOMAINS[domain], "domain").values(kind) for kind in CLASSES}
    for part, count in (("test", test), ("tune", tune)):
        for _ in range(count):
            for kind in CLASSES:
                yield domain, part, kind, next(drawn[kind])


def pretraining_rows(tested: set[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield pretraining rows that are in no test set: first from one country, then from several, then from many."""
    before = 0
    for end, locales in zip(PRETRAINING.values(), (("en_US",), SEVERAL, MANY), strict=True):
        drawn = [(kind, Locale(name, "pretraining").values(kind)) for name in locales for kind in CLASSES]
        for kind, values in itertools.cycle(drawn):
            if before == end:
                break
            if (text := next((text for text in values if text not in tested), None)) is not None:
                before += 1
                yield "pretrain", "tune", kind, text


def main(target: Path) -> None:
    """Write the table."""
    rows = [row for domain in DOMAINS for row in domain_rows(domain)]
    rows += pretraining_rows({text for _, part, _, text in rows if part == "test"})
    columns = dict(zip(("domain", "part", "label", "text"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), target, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

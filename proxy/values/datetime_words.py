"""The words of PostgreSQL's date and time input (manual, appendix "Date/Time Key Words").

Abbreviations of zones depend on the server's timezone_abbreviations and are only recognised, to be refused.
One reason to change: the server's words.
"""

from __future__ import annotations

from typing import Final

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")

_LONG_MONTHS: Final = """
    january february march april may june july august september october november december
    """.split()  # noqa: SIM905

MONTH_WORDS: Final[dict[str, int]] = {
    **{word.lower(): i + 1 for i, word in enumerate(MONTHS)},
    **{word: i + 1 for i, word in enumerate(_LONG_MONTHS)},
    "sept": 9,
}
DAY_WORDS: Final = frozenset(
    """
    sun sunday mon monday tue tues tuesday wed wednesday
    weds thu thur thurs thursday fri friday sat saturday
    """.split()  # noqa: SIM905
)
IGNORED: Final = frozenset({"at", "on"})
ZERO_ZONES: Final = frozenset({"utc", "z", "zulu", "gmt", "ut", "uct"})

# What PostgreSQL reads and pgseal does not: relative and special values, field labels, Julian days, DST.
UNSUPPORTED_WORDS: Final = frozenset(
    """
    now today tomorrow yesterday epoch allballs dst
    d dow doy h isodow isoyear j jd julian m mm s y
    """.split()  # noqa: SIM905
)
KEYWORDS: Final = (
    MONTH_WORDS.keys() | DAY_WORDS | IGNORED | UNSUPPORTED_WORDS | {"am", "pm", "ad", "bc", "t", "infinity"}
)

ZONE_ABBREVIATIONS: Final = frozenset(
    """
    acdt acsst acst act acwst adt aedt aesst aest aft akdt akst almst almt amst amt anast anat aqtst
    aqtt arst art ast awsst awst azost azot azst azt bdst bdt bnt bort bot bra brst brt bst btt cadt
    cast cat cct cdt cest cet cetdst chadt chast chost chot chst chut cit ckt clst clt cot cst cvt
    cwst cxt davt ddut easst east eat ect edt eest eet eetdst egst egt eit est fet fjst fjt fkst fkt
    fnst fnt galt gamt gest get gft gilt gst gyt hadt hast hdt hkt hovst hovt hst ict idt iot irdt
    irkst irkt irst irt ist jayt jst kdt kgst kgt kost krast krat kst lhdt lhst ligt lint lkt magst
    magt mart mawt mdt mest mesz met metdst mez mht mist mmt mpt msd msk mst must mut mvt myt nct
    ndt nft novst novt npt nrt nst nut nzdt nzst nzt omsst omst orat pdt pet petst pett pgt phot pht
    pkst pkt pmdt pmst pont pst pwt pyst pyt qyzt ret rott sadt sakst sakt samst samt sast sat sbt
    sct sgt sret srt sst syot taht tft tjt tkt tlt tmt tot trut tvt ulast ulat uyst uyt uzst uzt vet
    vlast vlat volt vost vut wadt wakt wast wat wdt west wet wetdst wft wgst wgt wib wit wita wsdt
    wsst wst xjt yakst yakt yapt yekst yekt
    """.split()  # noqa: SIM905
)

"""Roles of columns by their names, in English and some other languages."""

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Final, Literal

Role = Literal["text", "label", "aspect", "observed_at", "unit", "segment"]

_NAMES: Final[Mapping[Role, str]] = {
    "text": (
        "text texts feedback comment comments message messages review reviews body description content sentence "
        "utterance query question ticket note notes answer response verbatim opinion remark remarks post tweet inquiry "
        "kommentar kommentare nachricht beschreibung inhalt ruckmeldung anfrage frage rezension freitext wortlaut "
        "texte commentaire commentaires avis contenu reponse remarque "
        "texto comentario comentarios mensaje resena descripcion contenido pregunta respuesta opinion "
        "mensagem descricao conteudo pergunta resposta testo commento commenti messaggio recensione descrizione "
        "contenuto tekst opmerking bericht beschrijving reactie komentarz opinia tresc metin yorum mesaj "
        "текст комментарий отзыв сообщение описание обращение "
        "文本 内容 评论 反馈 描述 テキスト コメント 本文 텍스트 리뷰"
    ),
    "label": (
        "label labels category categories intent intents intention sentiment class classification tag tags target "
        "polarity rating stars outcome reason "
        "kategorie klasse stimmung absicht anliegen etikett grund "
        "categorie etiquette classe intention tonalite categoria etiqueta clase sentimiento intencion motivo "
        "rotulo classe sentimento intencao etichetta intento klasse kategoria etykieta etiket kategori duygu "
        "метка категория тональность класс 标签 类别 分类 情感 意图 ラベル カテゴリ 感情 분류 라벨"
    ),
    "aspect": (
        "aspect aspects topic topics feature features area theme component module entity term "
        "aspekt aspekte thema themen merkmal bereich funktion baustein theme sujet fonctionnalite "
        "aspecto tema funcion caracteristica topico recurso aspetto argomento funzione onderwerp "
        "temat konu аспект тема 方面 主题 特性 アスペクト トピック 주제"
    ),
    "observed_at": (
        "date datetime time timestamp created submitted received posted opened when day "
        "datum zeit zeitpunkt zeitstempel erstellt eingegangen heure horodatage cree fecha hora creado "
        "data criado ora creato tijd aangemaakt tarih дата время 日期 时间 日付 日時 날짜"
    ),
    "unit": (
        "account accounts customer customers user users client clients organisation organization org company author "
        "member contact email username workspace tenant "
        "kunde kunden kundennummer konto nutzer benutzer firma compte utilisateur cliente cuenta usuario empresa conta "
        "conto utente klant klantnummer gebruiker klient musteri клиент пользователь 用户 客户 ユーザー 顧客 고객"
    ),
    "segment": (
        "segment plan tier market country region product channel platform language locale edition brand "
        "tarif markt land produkt kanal sprache marke forfait marche pays produit langue segmento mercado pais "
        "producto idioma produto mercato paese prodotto lingua taal "
        "сегмент тариф рынок страна продукт 套餐 地区 产品 プラン 製品"
    ),
}
_PHRASES: Final[Mapping[Role, tuple[str, ...]]] = {
    "text": (),
    "label": (),
    "aspect": ("product area", "aspect term", "feature area"),
    "observed_at": ("created at", "created on", "observed at", "erstellt am", "cree le", "creado el", "criado em"),
    "unit": (),
    "segment": (),
}
_WEAK: Final[Mapping[Role, str]] = {
    "text": "subject title summary betreff titel titre titulo headline",
    "label": "type kind status priority score y typ art tipo soort severity grade group",
    "aspect": "",
    "observed_at": "updated modified closed resolved",
    "unit": "name id",
    "segment": "group team department country size",
}
_IDS: Final = frozenset(["id", "ids", "nr", "no", "num", "nummer", "number", "numero", "key", "uuid", "guid", "ref"])
_WHOLE, _HEAD, _ENDING, _WITHIN, _SELDOM = 1.0, 0.8, 0.7, 0.5, 0.6
_LONG: Final = 5  # characters of a word that may be the end of a compound


def name_score(name: str, role: Role) -> float:
    """Return how well a column's name fits a role, 0 to 1; 1 if it is a name of the role. Pure."""
    words = name_words(name)
    if not words:
        return 0.0
    if is_id(name) and role != "unit":
        return 0.0
    known, weak = _known(role)
    return max(_fit(words, known), _SELDOM * _fit(words, weak))


def is_id(name: str) -> bool:
    """Return True if a name ends like the name of an identifier, such as `customer id`. Pure."""
    words = name_words(name)
    return len(words) > 1 and words[-1] in _IDS


@cache
def name_words(name: str) -> tuple[str, ...]:
    """Return the words of a name, folded and without accents. Pure."""
    return tuple(re.findall(r"[^\W_]+", plain(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name))))


def plain(text: str) -> str:
    """Return a text folded and without accents. Pure."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


@cache
def _known(role: Role) -> tuple[frozenset[str], frozenset[str]]:
    names = frozenset(" ".join(name_words(name)) for name in (*_NAMES[role].split(), *_PHRASES[role]))
    return names, frozenset(_WEAK[role].split())


def _fit(words: tuple[str, ...], names: frozenset[str]) -> float:
    if " ".join(words) in names:
        return _WHOLE
    core = words[:-1] if len(words) > 1 and words[-1] in _IDS else words
    if any(" ".join(core[at:]) in names for at in range(len(core))):
        return _HEAD
    if any(len(name) >= _LONG and core[-1].endswith(name) for name in names):
        return _ENDING
    if any(not name.isascii() and name in core[-1] for name in names):  # in languages that do not separate words
        return _ENDING
    return _WITHIN if any(word in names for word in core) else 0.0

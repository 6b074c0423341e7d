"""Words of all scripts, and encoders that see them."""

import json
import re

import pytest
import torch

from rporec_recbole.model.answer_match import AnswerMatcher
from rporec_recbole.model.encoder import LSAEncoder, unseen_texts
from rporec_recbole.model.words import LETTERS, WORD, terms_of
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.text.catalogue import Catalogue, ItemText

TITLES = {
    "Chinese": ["安静的海港", "隐藏的山谷", "琥珀的账本", "破碎的花园", "漫长的冬天"],
    "Japanese": ["静かな港", "スター・ロード", "琥珀の帳簿", "こわれた庭", "ながい冬"],
    "Thai": ["ท่าเรือเงียบ", "หุบเขาที่ซ่อน", "บัญชีอำพัน", "สวนที่พัง", "ฤดูหนาวยาว"],
    "Korean": ["조용한 항구", "숨겨진 계곡", "호박 장부", "부서진 정원", "긴 겨울"],
    "Hindi": ["शांत बंदरगाह", "छिपी घाटी", "अंबर बही", "टूटा बगीचा", "लंबी सर्दी"],
}


@pytest.mark.parametrize("language", TITLES)
def test_a_text_that_names_titles_is_near_these(language):
    titles = TITLES[language]
    encoder = LSAEncoder.fit([title for others in TITLES.values() for title in others], 24, 0)
    likeness = encoder.encode([f"<{title}> zzz" for title in titles]) @ encoder.encode(titles).T
    assert likeness.argmax(axis=1).tolist() == list(range(len(titles)))
    both = encoder.encode([f"{titles[0]} {titles[1]}"]) @ encoder.encode(titles).T
    assert both[0, :2].mean() > both[0, 2:].max()


@pytest.mark.parametrize("language", TITLES)
def test_an_answer_in_part_is_matched(language):
    titles = TITLES[language]
    matcher = AnswerMatcher(Catalogue([ItemText(""), *map(ItemText, titles)], ("title",)))
    part = titles[2][: max(2, len(titles[2].split(" ")[0]))]
    assert matcher([f"{part} zzz"])[0].items[0] == 3


@pytest.mark.parametrize(
    "text",
    [
        "Heat (1995) | Crime Drama",
        "Amélie, l'été_2 über straße",
        "Тихая гавань 3",
        "ήσυχο λιμάνι",
        "مرفأ هادئ",
        "e\u0301te\u0301",
        "",
    ],
)
def test_scripts_with_spaces_read_as_before(text):
    assert re.findall(WORD, text) == re.findall(LETTERS, text)


def test_a_sign_of_a_vowel_is_a_part_of_its_word():
    assert terms_of("हिन्दी।") == ["हिन्दी"]


def test_scripts_that_meet_are_kept_apart():
    assert terms_of("Star战争2號") == sorted(["star", "战", "争", "2", "號"])


def test_an_encoder_of_before_reads_as_it_did(tmp_path):
    LSAEncoder.fit(["安静 Heat", "隐藏 Up"], 2, 0).save(tmp_path)
    new = LSAEncoder.load(tmp_path)
    assert new.encode(["静"]).any()
    written = json.loads((tmp_path / "encoder.json").read_text(encoding="utf-8"))
    del written["words"]
    (tmp_path / "encoder.json").write_text(json.dumps(written), encoding="utf-8")
    old = LSAEncoder.load(tmp_path)
    assert not old.encode(["安静"]).any()
    assert (old.encode(["Heat"]) == new.encode(["Heat"])).all()
    old.save(tmp_path)
    assert json.loads((tmp_path / "encoder.json").read_text(encoding="utf-8"))["words"] == "by spaces"


def test_what_an_encoder_does_not_see_is_said():
    settings = default_settings().text
    vectors = torch.ones(100, 4)
    vectors[:3] = 0
    assert unseen_texts(vectors, "texts", settings) is None
    vectors[:20] = 0
    assert "20% of the texts" in unseen_texts(vectors, "texts", settings)
    assert unseen_texts(vectors[:0], "texts", settings) is None

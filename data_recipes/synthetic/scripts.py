"""Scripts that text worlds write in: common nouns of one language each, how words are joined, and where lines begin."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from data_recipes.synthetic.words import WORDS, random_number, random_token

Name = Literal["latin", "greek", "cyrillic", "han", "japanese", "hangul", "arabic", "devanagari"]


@dataclass(frozen=True)
class Script:
    """text: its words, between spaces. joint: what stands between words of a line. right_to_left: lines begin at the right. shaped:
    letters change with their neighbours, so that they can't be set apart, and Pillow needs Raqm. cased: words may be capitalised.
    """

    text: str
    joint: str = " "
    right_to_left: bool = False
    shaped: bool = False
    cased: bool = False

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.text.split())

    def token(self, rng: random.Random, codes: float) -> str:
        """A word, or with probability `codes` a number. Codes with letters are of Latin lines alone: A is also a letter of others."""
        if self.words == WORDS:
            return random_token(rng, codes)
        if rng.random() < codes:
            return random_number(rng)
        word = rng.choice(self.words)
        return rng.choice((word, word.capitalize())) if self.cased else word


SCRIPTS: dict[Name, Script] = {
    "latin": Script(" ".join(WORDS)),
    "greek": Script(
        """
        άλογο άμμος άνεμος αγορά αετός βιβλίο βουνό βροχή γάλα γάτα γέφυρα γραφείο δάσος δέντρο δρόμος ελιά
        ζάχαρη ήλιος θάλασσα καράβι καρέκλα κήπος κλειδί κρασί λάδι λεμόνι λιμάνι λουλούδι μήλο μέλι μουσείο
        νερό νησί ξύλο ουρανός πέτρα πόλη ποτάμι πόρτα ρολόι σπίτι σταθμός σύννεφο τραπέζι τρένο φεγγάρι
        φωτιά χιόνι χωριό ψωμί ώρα
        """,
        cased=True,
    ),
    "cyrillic": Script(
        """
        берег билет больница бумага ветер вечер вокзал вода газета город гвоздь дверь дерево дождь дорога
        железо завод зеркало зима книга ключ колесо корабль ладья лампа лестница лимон лошадь медведь молоко
        море мост музей мыло облако окно остров песня письмо площадь поезд рыба рынок сахар снег солнце стул
        тетрадь улица учитель хлеб цветок часы школа яблоко
        """,
        cased=True,
    ),
    "han": Script(
        """
        苹果 飞机 白云 报纸 冰箱 餐厅 茶叶 车站 窗户 春天 灯笼 电话 冬天 风筝 公园 故事 海洋 河流 火车 蝴蝶
        花园 机场 剪刀 教室 桔子 空气 老师 雷雨 篮球 铃声 马路 毛巾 米饭 面包 明月 牛奶 农村 朋友 葡萄 桥梁
        秋天 森林 商店 石头 书架 树林 水果 太阳 糖果 图书馆 夏天 鲜花 星星 学校 雪山 医院 雨伞 月亮 照片 钟表
        竹子 桌子
        """,
        joint="",
    ),
    "japanese": Script(
        """
        あさひ 犬小屋 うさぎ 駅前 お茶 海岸 傘立て カメラ 切手 くつした 黒板 ケーキ 公園 魚屋 桜並木 さくらんぼ
        自転車 写真 新聞 水曜日 すいか 雪だるま そら豆 台所 たまご 手紙 テーブル 電車 とけい 図書館 夏休み 庭木
        ねこ のり巻き パン屋 はさみ 飛行機 ピアノ 美術館 ふうせん 富士山 ほたる 窓口 みかん 麦茶 めがね 山道
        郵便局 夕焼け ラジオ りんご 冷蔵庫 ろうそく わたあめ
        """,
        joint="",
    ),
    "hangul": Script(
        """
        가을 감자 강물 개나리 거울 겨울 계단 고양이 공원 과일 구름 극장 기차 나무 냉장고 노래 다리 달력 도서관
        독수리 딸기 라디오 마을 모자 무지개 문방구 바다 바람 박물관 버스 별빛 병원 보름달 봄비 비행기 사과 사진
        산책 소금 시장 시계 신문 아침 안경 여름 연필 우산 우체국 음악 의자 자전거 저녁 전화 정류장 지도 창문
        책상 친구 커피 토끼 편지 포도 하늘 학교 호수
        """
    ),
    "arabic": Script(
        """
        بحر بيت باب برتقال جبل جسر جمل حديقة حصان حليب خبز خريطة خيمة دفتر رسالة رمل زهرة زيتون ساعة سفينة
        سماء سمكة سوق شارع شجرة شمس صحراء صديق صورة طائرة طاولة طريق عسل عصفور غابة غيمة فصل فنجان قلم قمر
        قرية كتاب كرسي لؤلؤ ليل مدرسة مدينة مطر مفتاح مكتبة ملعقة نافذة نجمة نخلة نهر هاتف هدية وردة ورق يوم
        """,
        right_to_left=True,
        shaped=True,
    ),
    "devanagari": Script(
        """
        आकाश आम अखबार अंगूर आँगन इमली उपवन किताब कुर्सी कमल कलम खिड़की खेत गाँव गाय घर घोड़ा चाँद चाय
        चिड़िया चित्र जंगल जहाज झील टोकरी डाकघर तारा तालाब तितली दरवाज़ा दीपक दूध धरती नदी नमक नाव पत्ता
        पत्थर पर्वत पानी पुल पुस्तक पेड़ फल फूल बगीचा बादल बारिश बाज़ार मछली मंदिर मित्र मेज़ मोर मौसम
        रास्ता रेल रोटी विद्यालय शहर सड़क समुद्र सूरज हवा हाथी
        """,
        shaped=True,
    ),
}

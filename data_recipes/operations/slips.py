"""Sentences in which a model gives away how it was asked: that it was told the answer, or that it saw no image.

Read are English and Chinese, by the phrases that say so; quoted passages are left out. Every pattern is bounded, so that the
time grows with the length of a text alone.
"""

from __future__ import annotations

import re

_QUOTED = re.compile(r"\"[^\"\n]{1,500}\"|“[^”\n]{1,500}”|「[^」\n]{1,500}」|『[^』\n]{1,500}』")

_SENTENCE = re.compile(r"[^.!?\n。！？]+[.!?\n。！？]?|[.!?\n。！？]")
_ABOUT_ANSWERS = re.compile(
    r"answer|solution|ground[\s-]truth|\blabel|\bknow|orientation|答案|解答|标答", re.IGNORECASE
)
_ABOUT_MEDIA = re.compile(
    r"image|pictur|photo|video|clip|figure|diagram|chart|graph|screenshot|attachment|visual|text|model|\bAI\b|sorry|please|apolog|unfortunately"
    r"|\beyes\b|vision|\bassist|\bhelp|图|照片|视频|附件|截图|模型|助手|文字|抱歉|对不起|遗憾",
    re.IGNORECASE,
)

# ------------------------------------------------------------------------------------------------- the answer was given

_KIND = r"(?:(?:correct|right|final|true|standard|expected|actual|numerical|official|reference)\s+){0,2}"
_GIVER = r"(?:prompt|instructions?|hint|question|problem(?:\s+statement)?|task|user|system(?:\s+message)?|key|dataset|annotation)"
# "the given answer choices" are options, "the expected answer format" is a format
_NO_OPTION = r"(?!\s+(?:choices?|options?|formats?|forms?|types?|box(?:es)?|space|sheet\s+line|lines?|field|blank|units?|set|range|candidates?|list))"
_GIVEN_ANSWER = re.compile(
    rf"\b(?:standard|reference|gold(?:en)?|ground[\s-]truth|official|supplied|pre-?given)\s+(?:correct\s+|final\s+)?answer\b{_NO_OPTION}"
    r"|\b(?:reference|official|gold(?:en)?|ground[\s-]truth)\s+(?:solution|label)\b|\bground[\s-]truth\b|\bhidden\s+answer\b"
    r"|\b(?:with|to|per|from|in|by|matches|the)\s+(?:the\s+)?answer\s+key\b"
    rf"|\b(?:the|this|that|your|with|an)\s+(?:already\s+)?(?:given|provided|stated|known|target|model|shown|expected|specified|indicated|disclosed)"
    rf"\s+{_KIND}answer\b{_NO_OPTION}"
    # it was given, provided, told
    rf"|\banswer\s+(?:is|was|has\s+been|had\s+been|being)\s+(?:already\s+)?(?:given|provided|supplied|told|revealed|disclosed|stated|specified)"
    rf"\s+(?:as\s|to\s+(?:us|me|be)\b|for\s+(?:us|me|orientation|reference)\b|(?:in|by)\s+the\s+{_GIVER}\b|beforehand|in\s+advance|upfront|at\s+the\s+(?:start|outset))"
    r"|\banswer\s+(?:was|has\s+(?:already\s+)?been|had\s+been)\s+(?:already\s+)?(?:given|provided|supplied|told|revealed|disclosed)(?!\s+by\b)"
    r"|\banswer\s+(?:that|which)\s+(?:was|is|has\s+been|had\s+been)\s+(?:given|supplied|provided|told)\b(?!\s+by\b)"
    r"|\banswer\s+is\s+already\s+(?:given|provided|known|supplied)\b"
    rf"|\b(?:the|an?)\s+{_KIND}answer\s*,?\s+(?:which\s+(?:is|was)\s+)?(?:given|provided|supplied|told|shown|disclosed|revealed)\s+(?:to\s+(?:us|me)|above|beforehand|in\s+advance"
    rf"|in\s+the\s+{_GIVER}|is\b|was\b|as\b|here)"
    r"|\banswer\s+(?:of\s+|is\s+)?[^\s.!?]{1,20}\s+(?:(?:is|was|being|as)\s+)?(?:given|provided|told|supplied)\s+to\s+(?:us|me)\b"
    rf"|\bthe\s+{_GIVER}\s+(?:has|have|had)\s+(?:already\s+)?(?:provided|given|told|supplied|stated|revealed)\s+(?:(?:us|me|with)\s+){{0,2}}the\s+{_KIND}answer\b{_NO_OPTION}"
    r"|\b(?:according\s+to|as\s+per|per|based\s+on|match(?:es|ing)?|agrees?\s+with|consistent\s+with|from|following)\s+the\s+(?:given|provided|supplied)\s+solution\b"
    r"|\bthe\s+given\s+solution\s+is\s+(?:\$?-?\d|\(?[A-E]\b)|\bfrom\s+the\s+(?:reference|key)\s+that\b"
    r"|\banswer\s+is\s+known\s*(?:to\s+be\b|:|as\b|in\s+advance|beforehand)|\bgiven\s+by\s+the\s+(?:standard\s+|correct\s+)?answer\b"
    r"|\b(?:agrees?|match(?:es)?|coincides?|consistent|same|identical)\s+(?:with|as|to)\s+the\s+one\s+(?:provided|given|supplied)\b"
    rf"|\b(?:the|with|to)\s+{_KIND}answer\s+(?:provided|supplied)\s*(?=[.,;:!]|\Z)|\b(?:as|with|match(?:es|ing)?|equals?|to)\s+the\s+{_KIND}answer\s+given\b(?!\s+by)"
    # we were told it, we know it
    r"|\b(?:I|we|you|they|I['’]m|we['’]re|I['’]ve|we['’]ve)\s+(?:(?:am|are|were|was|have|had|been|already|also|being)\s+){0,3}"
    rf"(?:told|given|informed|provided|supplied|shown)\s+(?:(?:us|me|with|that|of|in\s+the\s+{_GIVER})\s+){{0,3}}(?:the|an)\s+{_KIND}answer\b{_NO_OPTION}"
    rf"|\b(?:since|because|as|given\s+that|knowing\s+that|knowing|if)\s+(?:(?:I|we)\s+(?:already\s+)?know\s+(?:that\s+)?)the\s+{_KIND}answer\s+(?:is|was|should|must|to)\b"
    rf"|\b(?:I|we)\s+already\s+(?:know|have)\s+(?:that\s+)?the\s+{_KIND}answer\b"
    rf"|\b(?:given|knowing|provided)\s+(?:that\s+)?the\s+{_KIND}answer\s+(?:is|of|being|as|to\s+be)\s+(?!an?\s|asked|required|requested|to\b|in\s|expected|unique|always|either|not\b|one\s+of)"
    rf"|\bthe\s+{_KIND}answer\s+(?:that\s+)?(?:(?:you|I|we)\s+)(?:(?:have|has|had|were|was|am|are)\s+)?(?:been\s+)?(?:gave|given|provided|supplied|told|stated)\b"
    rf"|\b(?:told|tells|gives|gave)\s+(?:us|me)\s+(?:that\s+)?the\s+{_KIND}answer\b{_NO_OPTION}"
    rf"|\bthe\s+{_GIVER}\s+(?:itself\s+)?(?:says?|states?|tells|gives|mentions?|provides?|reveals?|indicates?|specif(?:y|ies))\s+(?:(?:us|me|that)\s+){{0,2}}the\s+{_KIND}answer\s+(?:is|as|to|of|was)\b"
    # it reasons back from it, or hides it
    rf"|\b(?:work(?:ing)?|reason(?:ing)?)\s+back(?:wards?)?\s+from\s+the\s+{_KIND}answer\b|\breverse[\s-]engineer(?:ing)?\s+(?:from\s+)?the\s+{_KIND}answer\b"
    rf"|\b(?:according\s+to|based\s+on|as\s+per|consistent\s+with|agree(?:s|ing)?\s+with|match(?:es|ing)?|in\s+(?:line|accordance)\s+with|align(?:s|ing|ed)?\s+with)\s+the\s+{_KIND}answer\s+"
    r"(?:provided|given|supplied|above|stated|shown|key|,|is\b|it\s+(?:is|must|should))"
    rf"|\b(?:pretend|act|reason|as\s+if)\b[^.!?\n]{{0,40}}\b(?:do\s+not|don['’]t|did\s+not|didn['’]t|without)\s+know(?:ing)?\s+(?:the\s+{_KIND}answer|it\b)"
    rf"|\bwithout\s+(?:mentioning|revealing|referring\s+to)\s+(?:that\s+)?the\s+{_KIND}answer\b|\bfor\s+(?:my|your)\s+orientation\b"
    # it speaks
    rf"|\bthe\s+answer\s+(?:says|states|claims)\b|\b(?:the|this|that)\s+(?:provided|given|supplied|standard|official)\s+solution\s+(?:says|states|claims|tells)\b"
    rf"|\bas\s+(?:stated|specified|indicated|shown|given|noted)\s+(?:in|by)\s+the\s+{_KIND}answer\b{_NO_OPTION}|\banswer\s*,\s*as\s+(?:given|provided|stated|told|specified)\b(?!\s+by)"
    r"|\banswer\s+(?:of\s+)?[^\s.!?]{1,20}\s+(?:that|which)\s+(?:was|is|has\s+been)\s+(?:given|provided|supplied|told)\b(?!\s+by\b)"
    r"|\b(?:labell?ed|annotated)\s+(?:correct\s+)?answer\b|\bdata\s?set['’]s\s+(?:answer|label)\b|\bsolution\s+is\s+known\s+to\s+be\s+(?:\$?-?\d|\(?[A-E]\b)"
    # Chinese: 正确答案 and 给出答案 are what any solution says
    r"|标准答案|参考答案|官方答案|(?:标准|参考|官方)解答|标答(?=[是为给，,：:])|答案告诉我们|(?:根据|对照|参照|按照)(?:正确)?答案(?=[，,可来反倒逆])|(?:给定|已知|预设|既定)的?(?:正确|标准)?答案(?!选项|[中里]|的?格式)"
    r"|(?:给出|提供|所给|已给|告知|告诉我们?|题目给|题给|事先给)(?:出|了)?的(?:正确|标准|最终)?答案(?!选项|[中里]|的?格式)|所给(?:正确|标准)?答案(?!选项|[中里])"
    r"|(?:告诉|告知)(?:了)?(?:我们?|了)?(?:正确|标准)?答案(?:是|为|就是)|(?:题目|提示|指令|用户|系统)(?:已经?|中)?(?:已经?)?(?:给出|提供|说明|告知|告诉)(?:了)?(?:正确|标准)?答案(?!选项|[中里]|的?格式)"
    r"|答案是已知的|答案(?:给出|提供)的是|答案(?:已经|已|早已)(?:给出|提供|告知|知道?|知晓|给定)|(?:既然|因为|由于)(?:我们?)?(?:已经?)?(?:知道|已知)(?:了)?(?:正确|标准)?答案"
    r"|(?:我|我们)(?:已经|事先|已)知道(?:了)?(?:正确|标准)?答案|(?:由|从|根据)(?:正确)?答案(?:反推|倒推|逆推|可知|来推)|假装不知道(?:正确|标准)?答案",
    re.IGNORECASE,
)
_ANSWER_IN_QUESTION = re.compile(
    r"\b(?:given|provided|reference|standard|proposed|suggested|official|stated|model|expected|sample|claimed|student)\s+(?:answer|solution)\b"
    r"|\banswer\s+key\b|\w['’]s\s+(?:answer|solution)\b|\bthe\s+answer\s+(?:is|was|given)\b|(?:标准|参考|给出的|已知)答案|答案(?:是|为)",
    re.IGNORECASE,
)


def tells_given_answer(text: str, question: str = "") -> str | None:
    """The phrase in which a solution says that its answer was given to it, or None.

    Where the question itself speaks of an answer ("Is Tom's answer right?"), none is looked for.
    """
    if _ANSWER_IN_QUESTION.search(question):
        return None
    return _found(_GIVEN_ANSWER, text, _ABOUT_ANSWERS)


_GIVEN_CAPTION = re.compile(
    r"\b(?:the|this|that|your)\s+(?:present|existing|original|previous|provided|given|current|old|earlier|supplied)\s+(?:caption|description)\b"
    r"|(?:原有|现有|原来|给出|提供|当前|之前)的?(?:标题|说明|描述|图注)",
    re.IGNORECASE,
)


def tells_given_caption(text: str) -> str | None:
    """The phrase in which a caption speaks of the one that it was to replace, or None."""
    return _found(_GIVEN_CAPTION, text, _GIVEN_CAPTION)


# ------------------------------------------------------------------------------------------------------ nothing was seen

_MEDIUM = r"(?:images?|pictures?|photos?|photographs?|videos?|clips?|figures?|diagrams?|charts?|graphs?|screenshots?|attachments?|visuals?|visual\s+(?:content|input|data|information)|image\s+files?)"
_ARTICLES = r"(?:(?:any|the|your|this|that|an?|these|those|actual|attached|provided|uploaded|above|accompanying|referenced|given|such|of|or)\s+){0,4}"
_SEE_ONE = r"(?:see|view|access|look\s+at|open|process|interpret|analy[sz]e|load|read|examine|observe|perceive|display|retrieve|inspect|describe)"
_SEE = rf"{_SEE_ONE}(?:(?:,|\s+or|\s+and)\s+{_SEE_ONE}){{0,2}}"
_CANNOT = (
    r"(?:can\s?not|can['’]t|could\s?not|couldn['’]t|(?:am|are|was|were|['’]m|['’]re)\s+(?:not\s+able|unable|not\s+capable)\s+(?:to|of)"
    r"|(?:do\s+not|don['’]t|did\s+not|didn['’]t)\s+(?:actually\s+)?(?:have\s+(?:the\s+)?(?:ability|capability|access|means)\s+to|have\s+access\s+to|see|have))"
)
_CHAT = r"(?:message|conversation|chat|prompt|question|post|request|context|input|text|query|thread|problem)"
# "any picture on the wall", "the image clearly", "the figure's back": something in the picture, not the picture
_IN_SCENE = (
    rf"(?!\s+(?:hanging|clearly|well|exactly|precisely|entirely|fully|completely|of\b|that\s+(?:is|are)\s+(?:on|in|hang)|"
    rf"(?:on|in|inside|behind|under|above|near|within|at)\s+(?!(?:your|the|this|our)\s+{_CHAT}\b)(?:the|this|that|his|her|their|its|any|either|a)\b)|['’]s\b|-)"
)
_GIVEN = r"(?:provided|attached|uploaded|included|shared|given|supplied|sent|available|accessible|received|detected)"
_UNSEEN = re.compile(
    rf"\b(?:I|we|it)\s*(?:(?:actually|currently|also|really|still|simply)\s+)?{_CANNOT}\s+(?:(?:actually|directly|currently|physically|even|to|really)\s+)?(?:{_SEE}\s+)?{_ARTICLES}{_MEDIUM}\b{_IN_SCENE}"
    rf"|(?:\A|[.!?\n:]\s*)(?:sorry,?\s+)?(?:unable|not\s+able|cannot)\s+(?:to\s+)?{_SEE}\s+{_ARTICLES}{_MEDIUM}\b{_IN_SCENE}"
    rf"|\b{_MEDIUM}\s+(?:can\s?not|can['’]t|could\s+not|couldn['’]t)\s+be\s+(?:viewed|displayed|loaded|accessed|opened|retrieved|processed)\b"
    rf"|\b(?:the|your|this|any|an)\s+{_MEDIUM}\s+(?:(?:you|that|which|was|were)\s+){{0,3}}(?:(?:referred\s+to|mentioned|uploaded|attached|provided)\s+)?"
    rf"(?:(?:is|are|was|were|has|have|does|did)\s*(?:not|n['’]t)|(?:is|was|seems?\s+to\s+be|appears?\s+to\s+be)\s+(?:missing|unavailable|inaccessible)|failed\s+to|seems?\s+to\s+be\s+missing)"
    rf"(?:\s+(?:been|be|actually|yet|currently)){{0,2}}(?:\s+(?:{_GIVEN}|load(?:ed)?|display(?:ed)?\b(?!\s+(?:on|in))|come\s+through|visible\s+to\s+me|shown\s*(?=[.,;!)]|\Z|here|so))|\s*(?=[.,;!)]|\Z|from\s+(?:your|the|this)\s+{_CHAT}))(?<!not)(?<!n't)(?<!n’t)"
    rf"|\bno\s+(?:(?:actual|visible|attached|accompanying|such)\s+)?{_MEDIUM}\s+(?:(?:is|are|was|were|has|have|had|been|actually|currently|or\s+\w+)\s+){{0,3}}"
    rf"(?:{_GIVEN}\b(?!\s+(?:by|between))|(?:shown|displayed|present|visible|found|here)\s*(?:to\s+me\b|(?=[.,;!)]|\Z|so\b)|(?:in|with)\s+(?:your|the|this|our)\s+{_CHAT}\b)|(?:in|with)\s+(?:your|the|this|our)\s+{_CHAT}\b|for\s+me\s+to\b)"
    rf"|\b(?:you|user|they)\s+(?:(?:did\s+not|didn['’]t|have\s+not|haven['’]t|has\s+not|hasn['’]t|may\s+have|seem\s+to\s+have)\s+(?:actually\s+)?(?:forgot(?:ten)?\s+to\s+)?|forgot\s+to\s+)"
    rf"(?:provided?|attach(?:ed)?|upload(?:ed)?|included?|shared?|sen[dt]|add(?:ed)?|gave|given?)\s+(?:me\s+|us\s+)?(?:with\s+)?{_ARTICLES}{_MEDIUM}\b"
    rf"|\bwithout\s+(?:actually\s+)?(?:seeing|viewing|having|(?:having\s+)?(?:visual\s+)?access\s+to|being\s+able\s+to\s+(?:see|view|access))\s+{_ARTICLES}{_MEDIUM}\b(?!\s+of)"
    rf"|\b(?:please|could\s+you(?:\s+please)?|can\s+you(?:\s+please)?|if\s+you(?:\s+(?:can|could))?|kindly)\s+(?:re-?)?(?:provide|upload|attach|share|send|resend|describe|submit)\s+(?:(?:it|me|us|with)\s+){{0,2}}{_ARTICLES}(?:clear(?:er)?\s+)?{_MEDIUM}\b"
    rf"|\bwithout\s+(?:(?:the|an?|any|specific|additional|information|or|visual|actual|more|further|data|context)\s+){{1,6}}{_MEDIUM}"
    r"(?:\s+(?:being\s+)?(?:provided|given|available|attached|to\s+refer)\b|(?:\s+or\s+[^,.!?\n]{1,40})?,\s*(?:it['’]s|it\s+is|I)\s+(?:impossible|not\s+possible|difficult|can\s?not|can['’]t))"
    rf"|\bthe\s+(?:question|problem|prompt|query|text)\s+(?:does\s+not|doesn['’]t|did\s+not|is)\s+(?:provide|include|contain|come\s+with|give|missing)\s+(?:a|an|any|the)\s+{_MEDIUM}\b{_IN_SCENE}"
    rf"|\bno\s+{_MEDIUM}\s+(?:or\s+\w+\s+)?(?:is|was|are|were)\s+(?:mentioned|provided|given|included)\s+in\s+the\s+(?:question|problem|prompt)\b"
    r"|\bplease\s+(?:provide|give|share|supply|clarify|submit)\s+(?:(?:us|me|with|the|an?|any|more|some|additional|further|necessary|complete|specific|relevant|required|full|missing|numeric|exact|actual|and)\s+){1,4}(?:[\w-]+\s+){0,1}"
    r"(?:information|details?|context|questions?|data|functions?|sequence|series|lists?|values?|tables?|options|equations?|matrix|numbers?|measures?|lengths?|dimensions|problem|food\s+web)\b"
    rf"|\bthere\s+(?:does\s+not|doesn['’]t)\s+(?:appear|seem)\s+to\s+be\s+{_ARTICLES}{_MEDIUM}\b{_IN_SCENE}"
    rf"|\bno\s+(?:way|means|possibility)\s+(?:of\s+(?:seeing|viewing|accessing|looking\s+at|opening)|to\s+{_SEE})\s+{_ARTICLES}{_MEDIUM}\b{_IN_SCENE}"
    rf"|\b(?:does\s+not|doesn['’]t|do\s+not|don['’]t)\s+(?:allow|let|enable|permit)\s+me\s+to\s+{_SEE}\s+{_ARTICLES}{_MEDIUM}\b{_IN_SCENE}"
    rf"|\b{_MEDIUM}\s+(?:is|are)\s+not\s+(?:currently\s+)?supported\b|\b(?:not|n['’]t|in)\s?visible\s+to\s+me\b"
    rf"|\b(?:the|your)\s+{_MEDIUM}\s+(?:that\s+)?(?:you\s+)?(?:have\s+)?(?:mentioned|sent|provided|uploaded|shared|attached|referred\s+to)\s+(?:is|was|does|did|has|can)\s*(?:not|n['’]t)\s+(?:been\s+)?(?:visible|available|accessible|loaded|loading|load|display(?:ed)?|show\s+up|appear|come\s+through|be\s+(?:viewed|seen|opened|loaded))\b"
    rf"|\bI\s+see\s+no\s+{_MEDIUM}\b{_IN_SCENE}|\bI\s+have\s+no\s+(?:visual\s+)?access\s+to\s+{_ARTICLES}{_MEDIUM}\b"
    rf"|\bI\s+lack\s+(?:the\s+)?(?:ability|capability|access|means|capacity)\s+to\s+(?:{_SEE}\s+)?{_ARTICLES}{_MEDIUM}\b"
    rf"|\A\s*(?:sorry,?\s+)?(?:the\s+)?{_MEDIUM}\s+(?:is\s+|are\s+)?(?:not\s+(?:available|found|provided|loaded|attached)|unavailable)\b"
    # what it says it is
    r"|\bas\s+an?\s+(?:(?:purely\s+)?text[\s-](?:based|only)|(?:large\s+)?language|AI)\s+(?:(?:AI|language|text)\s+){0,2}(?:model|assistant|chatbot|system|AI|program|interface)\b|\bas\s+an\s+AI\s*,"
    r"|\bI\s*(?:am|['’]m)\s+(?:just\s+|only\s+|merely\s+)?an?\s+(?:(?:purely\s+)?text[\s-](?:based|only)|(?:large\s+)?language|AI)\s+(?:(?:AI|language|text)\s+){0,2}(?:model|assistant|chatbot|system|AI)\b"
    r"|\bI\s+(?:can\s+)?only\s+(?:process|handle|understand|work\s+with|read|see|have\s+access\s+to)\s+(?:the\s+)?text\b|\bI\s+(?:do\s+not|don['’]t)\s+have\s+(?:vision|eyes|visual\s+(?:capabilit\w+|access|input)|the\s+ability\s+to\s+see)\b"
    r"|\bthe\s+AI\s+model\s+(?:does\s+not|doesn['’]t|cannot|can['’]t)\b"
    # refusals
    r"|\bI\s+apologi[sz]e\b[^.!?\n]{0,10}\bI\s+(?:can\s?not|can['’]t|should\s+not|am\s+unable|do\s+not\s+have)\b"
    r"|\b(?:sorry|apologi[sz]e|unfortunately)\b[^.!?\n]{0,30}\bI\s*(?:can\s?not|can['’]t|am\s+(?:unable|not\s+able)\s+to|['’]m\s+(?:unable|not\s+able)\s+to|won['’]t)\s+(?:help|assist|fulfil|comply|answer|identify|do\s+that|process)\w*"
    r"|\bI\s*(?:can\s?not|can['’]t)\s+(?:help|assist)\s+(?:you\s+)?with\s+(?:that|this|images?|your|the)\b"
    # Chinese
    r"|(?:无法|不能|没法|没有办法|不具备|无权)(?:直接|真正|实际)?(?:看到|查看|看见|访问|打开|处理|读取|加载|浏览|观看|接收|获取)(?:到)?(?:您|你|用户)?(?:所)?(?:提供|上传|发送|提到)?的?(?:任何|这张|该|此|这幅|那张|具体的?|实际的?|相关的?)?"
    r"(?:图片|图像|照片|视频|附件|截图|图)(?![中上里内的形案片像书]|\w{0,2}[中上里])"
    r"|(?:看不到|看不见|没看到|没有看到|没有收到|未收到)(?:您|你)?(?:提供|上传|发送)?的?(?:任何|这张|该|此)?(?:图片|图像|照片|视频|附件|截图)(?![中上里内的])"
    r"|(?:没有|未|并未|并没有|忘记)(?:提供|上传|附上|附带|发送|附加|给出)(?:任何|相关的?|具体的?|相应的?)?(?:图片|图像|照片|视频|附件|截图|图)(?![中上里内形])"
    r"|(?:图片|图像|照片|视频|附件|截图)(?:(?:没有|未能?|无法|并未)(?:被|成功|正常|正确)?(?:加载|上传|附上|打开|查看)|(?:没有|未能?|无法|并未)(?:被|成功|正常|正确)?(?:显示|提供)(?=出来|[，。；！,.]|\Z))"
    r"|请(?:您|你)?(?:重新|再次)?(?:提供|上传|发送|附上|描述)(?:一下|一张)?(?:相关|该|这张|清晰)?的?(?:图片|图像|照片|视频|截图)"
    r"|作为(?:一个|一名|一款)?(?:纯)?(?:文本|文字|AI|人工智能|大型?|语言)+(?:的)?(?:语言)?(?:模型|助手|AI)|我只能(?:处理|理解|阅读|看到)(?:文本|文字)"
    r"|(?:抱歉|对不起|很遗憾)[，,]?[^。！？\n]{0,10}我(?:无法|不能)(?:回答|提供|帮助|协助|识别|完成|处理|查看)",
    re.IGNORECASE,
)


def denies_media(text: str) -> str | None:
    """The phrase in which a model says that it saw no image or video, is no model for them, or refuses; or None.

    For texts about media: where a row has none, "no image is given" may be right.
    """
    return _found(_UNSEEN, text, _ABOUT_MEDIA)


def _found(pattern: re.Pattern[str], text: str, about: re.Pattern[str]) -> str | None:
    """The first match in a sentence that holds one of the words it is about."""
    for sentence in _SENTENCE.findall(_QUOTED.sub(" ", text)):
        match = pattern.search(sentence) if about.search(sentence) else None
        if match:
            return " ".join(match.group().split()).strip(" .,:!?")
    return None

"""Whether a critic that named no flaw and asked for nothing evaded, in words that `refusals.py` lacks.

A wide net for the one case where being wrong costs least: a critique of nothing but praise says neither "I
cannot", nor speaks of rules, requests or uploads. What says that there is nothing to change is none.
"""

import re

from rpo_cli.stages.nothing import asks_for_nothing, plain, without_quotes
from rpo_cli.stages.refusals import LONGEST, SENTENCE

_EVASIONS = re.compile(
    # English
    r"\b(?:i|we)(?:'m| am| are|'ve| have)? (?:\w+ ){0,2}?(?:can't|cannot|can not|couldn't|unable|"
    r"not able|won't|will not|"
    r"don't|do not|didn't|did not|not|no (?:access|way|means)|haven't|lack|must not|abstain|refuse|"
    r"decline|have to (?:stop|"
    r"pass)|must stop)\b|"
    r"\b(?:guidelines?|polic(?:y|ies)|terms of (?:use|service)|(?:my|our) (?:capabilit|abilit|scope|"
    r"training)\w*|"
    r"(?:language|text) model|content filter|your (?:request|message|query)|nudity|(?:only|"
    r"just) (?:see )?text|where(?:'s| is| are) the (?:image|picture|photo)|goes against|my principles|"
    r"pornograph\w*|"
    r"inappropriate|disallowed|"
    r"prohibited|(?:image|picture|photo|file|nothing|attachment) (?:\w+ ){0,3}(?:uploaded|attached|"
    r"provided|received)|"
    r"no (?:image|picture|photo|file|attachment) (?:in|here|yet|to|for|with)|upload|(?:attach|resend|"
    r"send) (?:it|the|an?|your)|(?:to|for) me)\b|"
    # German
    r"\b(?:ich|mir|mich|wir|uns)\b[^.]*\b(?:nicht|nichts|kein\w*|unmöglich|untersagt|verwehrt|verboten)\b|"
    r"\b(?:richtlinie\w*|nutzungsbedingung\w*|anfrage|abstand|nur text|programmierung|wo ist das bild|"
    r"fehlt das bild|sprachmodell\w*|hochlad\w*|hochgeladen\w*|"
    r"angehängt\w*|"
    r"bild (?:\w+ ){0,3}(?:übertragen|übermittelt|erhalten)|(?:nicht|außerhalb) (?:in )?mein\w*|"
    r"(?:schick|send|lad)\w* (?:sie )?(?:mir )?(?:das|ein)|mein\w* (?:möglichkeit|fähigkeit|"
    r"kompetenz)\w*)\b|"
    # French
    r"\b(?:je ne|je n'|ne m'est|il m'est im)|\b(?:politiques?|dans l'impossibilité|ne s'affiche|"
    r"(?:renvoy|télécharg|envoy)\w+|mes (?:consignes|capacités|règles|directives)|"
    r"nos (?:règles|"
    r"conditions)|abstien\w*|aucun (?:fichier|image)|pas d'image|où est l'image|modèle de lang\w+|"
    r"téléverse\w*|joindre|(?:image|photo|demande) ne|(?:image|"
    r"photo) jointe|votre (?:"
    r"demande|requête|message))\b|"
    # Spanish
    r"\bno (?:puedo|podría|dispongo|tengo (?:acceso|permi|la|forma|manera|modo)\w*|me|estoy|soy|consigo|"
    r"logro|"
    r"voy|quiero|debo|es posible|se (?:puede|pudo))\b|\b("
    r"?:políticas?|normas|mis (?:capacidades|directrices|reglas)|adjunt\w*|sub(?:e|ir|a) (?:la|una)|"
    r"solo veo|falta la (?:imagen|foto)|no haré|dónde está la|modelo de lenguaje|(?:envi|"
    r"mand)\w{1,3} (?:la|una) (?:imagen|foto)|"
    r"(?:tu|su|esta) (?:solicitud|petición|mensaje))\b|"
    # Chinese
    r"只看到|(?:图|图片|照片)在哪|没有图(?!案|形|标)|我选择|我.{0,6}(?:不被|看不|无法|不能|不会|没有|没|不便|不可|不予|拒绝)|无法(?:处理|完成|回答|查看|分析|"
    r"识别|提供)|(?:此|该|这个|您的|你的)请求|"
    r"(?:加载|上传|显示)失败|准则|政策|我的(?:能力|权限)|上传|语言模型|敏感"
)


def evades(text: str) -> bool:
    """Whether a sentence of a critique without flaw is no judgement of a picture."""
    sentences = (one for one in SENTENCE.split(without_quotes(text[:LONGEST])) if one.strip())
    return any(_EVASIONS.search(plain(one)) and not asks_for_nothing(one) for one in sentences)

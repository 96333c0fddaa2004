"""How German says that nothing is to change, and what it wants done."""

from rpo_cli.stages.tongues.tongue import Tongue

_NOUN = (
    r"(?:\w*änderung(?:en)?|anpassung(?:en)?|bearbeitung(?:en|sschritte?)?|korrektur(?:en)?|"
    r"verbesserung(?:en|svorschläge?)?|"
    r"modifikation(?:en)?|eingriffe?|anweisung(?:en)?|fehlern?|mängel|mangel|abweichung(?:en)?|probleme?|"
    r"schritte?|"
    r"\w*bedarf|\w*(?:vorschläge?n?|wünsche?|hinweise?)|anlass|grund|überarbeitung(?:en)?|"
    r"nachbesserung(?:en)?|unterschiede?|"
    r"retuschen?|notwendigkeit|"
    r"beanstandung(?:en)?|maßnahmen?|bearbeiten|schwächen?|unstimmigkeit(?:en)?|nacharbeit(?:en)?|"
    r"optimierung(?:en)?)"
)
_VERB = (
    r"(?:\w*änder\w*|\w*bearbeit\w*|korrigier\w*|\w*anpass\w*|angepasst\w*|anzupassen|verbesser\w*|"
    r"modifizier\w*|retuschier\w*|"
    r"nachbesser\w*|überarbeitet?\w*|eingreif\w*|eingegriffen|beanstand\w*|auszusetzen|aussetzen|"
    r"hinzu\w*|"
    r"entfern\w*|zu tun|tun|machen|getan|gemacht|unternehmen|unternommen|nötig|notwendig|erforderlich|"
    r"falsch|fehlt|"
    r"anfassen|angerührt|ersetz\w*|optimier\w*|zu beheben|behoben|vorzunehmen|anders)"
)
_SAYS = (
    r"(?:(?:der|die|das|den|dem|dies\w*|alle|alles|es|ich|wir|man|hier|da|am|an|in|im|bei|bild|foto|"
    r"somit|daher|also|bitte|"
    r"insgesamt|aus meiner sicht|jede\w*|ein\w*|sie|er|derzeit|meiner meinung nach|sonst|ansonsten|daran|"
    r"weder|für|mir|motiv|"
    r"wäre|braucht|bedarf|benötigt)\b[^;]{0,60}?)?\s*"
)
GERMAN = Tongue(
    split=r"\b(?:aber|und|sondern|jedoch|doch|denn|weil|da(?= das)|sodass|allerdings|sowie|deshalb|"
    r"daher)\b"
    r"|(?=\b(?:außer|bis auf|abgesehen von|mit ausnahme)\b)",
    nothing=(
        r"[^;]{0,40}\bunverändert\s+(?:lassen|behalten|übernehmen|bleibt|bleiben)\b|[^;]{0,30}\b(?:zeigt|"
        r"enthält|hat)\s+(?:alles|"
        r"genau)\s+(?:was|wie|,)|(?:genau\s+)?wie (?:gewünscht|verlangt|beschrieben|gefordert)$",
        r"[\w ,'-]{0,40}?\b(?:ist|gibt es|habe ich|finde ich|sehe ich|bleibt|"
        r"wäre)\s+(?:[\w-]+\s+){0,2}?nichts\s+"
        r"(?:[\w-]+\s+){0,2}?zu\b",
        rf"{_SAYS}\b(?:kein\w*|ohne|keinerlei|null)\s+(?:[\w-]+\s+){{0,4}}?{_NOUN}\b",
        rf"{_SAYS}\b(?:nichts?|nicht|nie|niemals)\s+(?:[\w-]+\s+){{0,5}}?(?:{_VERB}|{_NOUN})\b",
        r"(?:bitte )?(?:ändere?|verändere?|bearbeite?|korrigiere?|entferne?|füge?|mache?|tu|tue|nimm|"
        r"ersetze?|verbessere?|passe?|"
        r"berühre?|lass\w*|unternimm)\s+(?:(?:bitte|hier|daran|am bild|an dem bild|sonst|weiter|"
        r"mal)\s+)*(?:nichts\b|keine\w*\s+"
        rf"(?:[\w-]+\s+){{0,2}}?{_NOUN})",
        rf"(?:weitere |zusätzliche |jegliche |irgendwelche |eine |"
        rf"die )*(?:nach)?{_NOUN}\s+(?:[^;]{{0,40}}?\s)?(?:nicht|unnötig|überflüssig|entbehrlich)\b",
        rf"{_SAYS}(?:so |unverändert |alles |das bild |es )*(?:behalten|beibehalten|belassen|bewahren|"
        rf"erhalten|bleiben|"
        r"bleibt|(?<!weg)lassen)\b(?![^;]*\bnur\b)",
        r"(?:bitte )?(?:behalte?|belasse?n?|bewahre?|erhalte?|halten?|halte|"
        r"lasse?n?)\b(?![^;]*\bnur\b)[^;]*?\b(?:so|unverändert|unangetastet|unberührt|"
        r"wie|bei|gleich|bestehen|bleiben|beibehalten|in ruhe|ruhen)\b",
        r"(?:bitte )?(?:behalte?|beibehalten|belasse|bewahre)\b(?![^;]*\b(?:nur|einen?|zwei)\b)",
        rf"{_SAYS}(?:bereits |schon |genau |voll |vollständig |perfekt |sehr |gut |exakt |"
        rf"komplett )*(?:entspricht|entsprechen|"
        r"passt|passen|stimmt|stimmen|erfüllt|erfüllen|übereinstimmt|hält sich|halten sich|deckt sich|"
        r"folgt|genügt|überzeugt|reicht|gefällt|trifft)\b(?! (?:nicht|kaum))",
        rf"{_SAYS}(?:ist|sind|wirkt|sieht|wurde|wurden|war)\s+(?:[\w-]+\s+){{0,4}}?(?:perfekt|korrekt|"
        rf"richtig|gut|in ordnung|fehlerfrei|"
        r"makellos|gelungen|optimal|ideal|okay|ok|fertig|vollständig|bestens|tadellos|einwandfrei|"
        r"treffend|stimmig|umgesetzt|"
        r"erfüllt|wie (?:gewünscht|beschrieben|verlangt|gefordert|vorgegeben))\b",
        r"(?:der|die|das|alle|alles|es|bild)\b[^;]*\b(?:bereits|schon)\b|(?:bereits|schon)\b|"
        r"[^;]{0,40}\bfehlt\w* nichts\b",
        r"(?:es ist |ist |da ist )?(?:alle|alles)\b(?![^;]*\b(?:zu|nicht|falsch|außer|soll\w*|muss|statt|"
        r"fehl\w*)\b)[^;]*\b(?:ist|sind|wurden?|"
        r"vorhanden|da|wie|enthalten|umgesetzt|dargestellt)\b",
        rf"(?:jede\w*|alle) (?:weitere\w* )?{_NOUN} würden?\b|(?![^;]*\bnur\b)[^;]*\b(?:beibehalten|"
        rf"belassen)$",
        r"(?:bild|foto|motiv|ergebnis)\s+(?:ist )?(?:passt|stimmt|korrekt|perfekt|ok|okay|gut|in ordnung|"
        r"richtig)$",
        r"(?:keine?|nichts|nein|entfällt|passt|perfekt|in ordnung|unverändert|alles (?:gut|bestens|"
        r"richtig|ok|okay|klar|korrekt|"
        r"in ordnung)|gut so|so lassen|nicht (?:nötig|notwendig|erforderlich)|unnötig|fehlanzeige|"
        r"k\.?\s?a\.?|fertig|sehr gut|super)$",
        r"(?:ich|wir)\s+(?:bin|sind)\s+(?:\w+\s+)?(?:zufrieden|einverstanden)\b",
    ),
    doing=r"(?!lassen|belassen|behalten|halten|bewahren)\w+n sie\b|(?:(?:bitte|nur|dann|auch|stattdessen|"
    r"lediglich|außerdem|vielleicht)\s+)*(?:füge?|entferne?|"
    r"mache?|ändere?|ersetze?|verschiebe?|"
    r"setze?|stelle?|zeichne?|male?|färbe?|schreibe?|vergrößer\w*|verkleiner\w*|drehe?|bewege?|nimm|gib|"
    r"korrigiere?|verändere?|erhöhe?|"
    r"verringere?|tausche?|lösche?|richte?|bringe?|lege?|platziere?|passe?|hebe?|helle?|dunkle?|schärfe?|"
    r"reduziere?|zeige?|verwandle|"
    r"wandle|schneide?|hänge?|streiche?|ergänze|verbreitere?|kürze?|verlängere?|spiegle|kippe?|glätte?|"
    r"rücke?|sorge?|verbessere?|"
    r"verwende|lass (?!.*(?:so|wie|unver))\w+|außer\b|bis auf\b|abgesehen von\b(?! (?:dem|davon))|"
    r"mit ausnahme\b|nur\b)\b",
    demand=r"^(?:mehr|weniger|höchstens|mindestens|vertausch\w*|behebe?|öffne|neige|binde|"
    r"behalte? nur|weg mit)\b|\b(?:braucht|brauchen|benötigt) (?!kein|nicht)|\bdarf nicht\b|"
    r"\b(?<!zu )(?:weglassen|ich (?:möchte|will|wünsche|hätte)|lackieren|streichen|malen|\w*färben|kippen|"
    r"spiegeln|schließen|öffnen|schärfen|"
    r"glätten|neigen|"
    r"kürzen|verlängern|zuschneiden|beschriften|aufhängen|hinstellen|wegnehmen|abnehmen|strecken|"
    r"begradigen|soll(?:te|ten|en)?|muss|müss\w*|könnte|zu (?:dunkel|hell|groß|klein|viel|wenig)|"
    r"statt(?:dessen)?|fehlt|etwas (?!zu\b|\w*zu\w+en\b)|"
    r"hinzufügen|entfernen|ändern|färben|ersetzen|verschieben|vergrößern|verkleinern|drehen|setzen|"
    r"schreiben|löschen|korrigieren|"
    r"anpassen|ergänzen|einfügen|aufhellen|abdunkeln|austauschen|bewegen|tauschen|reduzieren|erhöhen|"
    r"platzieren|machen|nehmen)\b",
    statement=r"(?:an|in|der|die|das|den|dies\w*|alle|alles|es|ich|wir|man|hier|da|am|im|bild|foto|wie|"
    r"sehr|"
    r"gut|perfekt|super|toll|prima|"
    r"insgesamt|ja|nein|keine?|danke|somit|weil|da|anweisung\w*|änderung\w*|so|ein|eine)\b",
    remark=r"(?:ich|wir|man|hier|es|das ist|dies|dies\w* (?:bild|foto|aufnahme|szene|ergebnis|motiv|"
    r"darstellung)|"
    r"(?:das|die|der|ihr|dein)\w* (?:[\w-]+ ){0,3}?(?:bild|foto|aufnahme|szene|ergebnis|motiv|"
    r"darstellung|prompt|"
    r"vorgabe|umsetzung|komposition)|alles|insgesamt|meiner|aus meiner|sehr gut|gut|super|toll|prima|"
    r"danke|da)\b",
    saved=r"\b(?:nichts|keine\w*(?:\s+[\w-]+){0,3})\s+(?:anderes\s+)?(?:als|außer|bis auf|ausgenommen|"
    r"mit ausnahme)\b",
    spoken=r"\b(?:steh\w*|les\w*|schreib\w*|\w*schrift\w*|text\w*|\w*schild\w*|wort\w*|worte|lautet|"
    r"heiß\w*|plakat\w*|banner\w*|zettel\w*)\b",
    anew=r"(?:bitte )?(?:(?:re)?generier\w*|erzeug\w*|erstell\w*|zeichne\w*|male?\w*|mach\w*|render\w*|"
    r"gestalt\w*|beginn\w*|fang\w*)\b[^;]*?"
    r"(?:\bbild\b[^;]*\b(?:neu|erneut|nochmals?|noch einmal|von grund auf)\b|\b(?:neues|anderes|"
    r"ganz neues)\s+(?:bild|foto|motiv)\b|von vorne?\b|"
    r"\bneu an\b)|(?:bitte )?(?:das |ein )?(?:ganze |gesamte |neues )?(?:bild|foto)\s+(?:komplett |ganz |"
    r"noch einmal )*(?:neu\s+)?(?:(?:re)?generieren|"
    r"neu \w+|erzeugen)|regenerier\w*|(?:generier\w*|erzeug\w*|erstell\w*)\s+(?:ein|"
    r"eine)\s+(?:neue\w*\s+)?(?:bild|foto|version|aufnahme)\b|neu generieren",
)

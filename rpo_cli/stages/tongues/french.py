"""How French says that nothing is to change, and what it wants done."""

from rpo_cli.stages.tongues.tongue import Tongue

_NOUN = (
    r"(?:modifications?|changements?|retouches?|corrections?|éditions?|ajustements?|améliorations?|"
    r"instructions?|défauts?|problèmes?|"
    r"erreurs?|différences?|écarts?|interventions?|actions?|altérations?|suggestions?|remarques?|"
    r"anomalies?|incohérences?|besoin|raison|"
    r"transformations?|consignes?|divergences?|imperfections?|reproches?)"
)
_VERB = (
    r"(?:chang\w*|modifi\w*|corrig\w*|édit\w*|ajust\w*|amélior\w*|retouch\w*|touch\w*|faire|altér\w*|"
    r"ajout\w*|enlev\w*|retir\w*|"
    r"supprim\w*|transform\w*|remplac\w*|reprendre|redire|signaler|reprocher|nécessaire|utile|requis\w*|"
    r"manque|intervenir|besoin)"
)
_SAYS = (
    r"(?:(?:l'|la|le|les|cette|ce|cet|ces|tout|toute|tous|toutes|il|elle|on|je|j'|nous|ici|veuillez|"
    r"merci de|vous|image|photo|"
    r"l'image|rien|donc|c'|qui|ne|n'|selon moi|à mon avis)[^;]{0,60}?)?\s*"
)
FRENCH = Tongue(
    split=r"\b(?:mais|et|car|donc|cependant|toutefois|puisque|parce que|alors que|puis)\b"
    r"|(?=\b(?:sauf|excepté|hormis|à part|à l'exception|en dehors)\b)",
    nothing=(
        rf"(?:aucune?|nul(?:le)?)\s+\w+\s+(?:ne\s+|n')[^;]*?{_VERB}",
        rf"{_SAYS}\b(?:aucune?s?|pas d'|pas de|pas besoin|sans|nulle?|zéro|ni)\s*(?:(?:autres?|"
        rf"[\w'-]+)\s+){{0,3}}?{_NOUN}\b",
        rf"{_SAYS}\b(?:ne\s+|n')(?:[\w'-]+\s+){{0,3}}?(?:pas|rien)\b[^;]{{0,30}}?\b(?:{_VERB}|{_NOUN})",
        rf"(?:veuillez |merci de |s'il vous plaît )?(?:ne\s+|n')?(?:y\s+)?{_VERB}\s+(?:surtout |"
        rf"absolument |à )*(?:rien|pas)\b(?! (?:par|que))",
        rf"{_SAYS}(?:ne\s+|n')(?:y\s+)?{_VERB}\s+(?:rien|pas)\b(?! que)",
        rf"{_SAYS}\brien\s+(?:à|d'autre à|de plus à|ne|n'|de|à y)\b",
        rf"(?:inutile|il est inutile|pas la peine|nul besoin|pas besoin|"
        rf"pas nécessaire)\b[^;]*?(?:{_VERB}|$)",
        rf"(?:(?:les|une|d'autres|toute|autre|autres)\s+)*{_NOUN}\s+(?:[^;]{{0,30}}?\s)?(?:(?:n'est|"
        rf"ne sont|n'était|n'sont)\s+pas|inutiles?|superflue?s?)\b",
        r"(?:veuillez |merci de |il faut |on peut |je )?(?:garde[rz]?|laisse[rz]?|conserve[rz]?|"
        r"maintien[st]|maintenir|maintenez|préserve[rz]?|"
        r"reste[rz]?)\b(?![^;]*\b(?:seulement|uniquement|que|seule?)\b)(?!.*\b(?:entrer|tomber|passer|"
        r"apparaître|voir)\b)",
        rf"{_SAYS}(?:peut|peuvent|doit|devrait)\s+(?:être\s+)?(?:gardée?s?|laissée?s?|conservée?s?|"
        rf"rester|maintenue?s?|préservée?s?)\b",
        r"(?:tout|toute|tous|toutes)\b(?![^;]*\b(?:trop|pas|manque\w*|sauf|faux|doi\w+)\b)[^;]*\b(?:est|"
        r"sont|a été|ont été|va|semble)\b",
        rf"(?:toute|chaque) (?:autre )?{_NOUN}\s+[^;]*rait\b|déjà\b|image\s+(?:correcte|parfaite|"
        rf"conforme|ok)$",
        rf"{_SAYS}(?:représente|montre|illustre|reprend|rend|reflète|traduit)(?:nt)?\s+(?:bien|"
        rf"fidèlement|correctement|parfaitement|exactement)\b",
        rf"{_SAYS}(?:reste|restent|demeure|rester|être conservée?|être laissée?)\b",
        rf"{_SAYS}(?:déjà |parfaitement |bien |tout à fait |pleinement |"
        rf"fidèlement )*(?:correspond(?:ent)?|respecte(?:nt)?|satisfait|"
        r"répond(?:ent)?|convient|conforme|suit|concorde|remplit|colle)\b",
        rf"{_SAYS}(?:est|sont|semble|paraît|c'est)\s+(?:[\w'-]+\s+){{0,3}}?(?:parfaite?s?|corrects?|"
        rf"correctes?|conformes?|fidèles?|bons?|"
        r"bonnes?|bien|réussie?s?|en ordre|exacte?s?|impeccables?|idéale?s?|complète?s?|juste|"
        r"satisfaisante?s?|respectée?s?)\b",
        r"(?:l'|la|le|les|cette|tout|toute|tous|il|elle)[^;]*\bdéjà\b",
        r"(?:c'est|tout est) (?:déjà )?(?:parfait|bon|bien|correct|ok)\b",
        r"(?:aucune?|rien|non|néant|sans objet|parfait|inchangée?|ras|r\.?a\.?s\.?|"
        r"tel(?:le)? quel(?:le)?|tout va bien|très bien|bravo|"
        r"pas nécessaire|inutile|ok)$",
        r"(?:je suis|nous sommes)\s+(?:\w+\s+)?(?:satisfaite?s?)\b",
    ),
    doing=r"(?:(?:veuillez|merci de|seulement|uniquement|puis|aussi|plutôt|il faut|il faudrait|"
    r"s'il vous plaît|mais)\s+)*(?:ajoute[rz]?|"
    r"enlève|enlever|enlevez|retire[rz]?|supprime[rz]?|change[rz]?|modifie[rz]?|remplace[rz]?|rends?|"
    r"rendre|rendez|mets|mettre|mettez|"
    r"déplace[rz]?|agrandi\w*|rédui\w*|écri\w*|efface[rz]?|colore[rz]?|peins|peindre|peignez|"
    r"dessine[rz]?|corrige[rz]?|tourne[rz]?|place[rz]?|"
    r"fais|faire|faites|donne[rz]?|augmente[rz]?|diminue[rz]?|éclairci\w*|assombri\w*|insère|insérer|"
    r"transforme[rz]?|incline[rz]?|"
    r"recadre[rz]?|ôte[rz]?|pose[rz]?(?! and\b)|passe[rz]?|allonge[rz]?|centre[rz]?|inverse[rz]?|sauf\b|"
    r"excepté\b|"
    r"hormis\b|à part\b(?! (?:ça|cela))|"
    r"à l'exception\b|en dehors\b|seule?\b|uniquement\b)\b",
    demand=r"^(?:ouvr\w+|penche[rz]?|répare[rz]?|complète[rz]?|échange[rz]?|allume[rz]?|éteins|liss\w+|"
    r"(?:ne )?montre[rz]?|davantage|plus de|(?:garde|laisse|conserve)[rz]? (?:seulement|une? seule?|"
    r"uniquement))\b|\b(?:au lieu de|je (?:veux|voudrais|souhaite\w*)|doit|doivent|devrait|devraient|"
    r"pourrait|il faut|trop|"
    r"plutôt|manque|un peu|que le|"
    r"que la|que les)\b",
    statement=r"(?:l'|la|le|les|cette|ce|cet|ces|tout|toute|tous|il|elle|on|je|j'|c'|très|bien|parfait|"
    r"bravo|oui|non|aucune?|rien|merci|"
    r"comme|puisque|étant|dans|instructions?|modifications?|image)",
    remark=r"(?:je|j'|nous|on|c'est|ça|cela|ceci|(?:cette|ce|la|le|l'|votre) ?(?:[\w-]+ ){0,3}?(?:image|"
    r"photo|"
    r"résultat|composition|scène|rendu|consigne|description|illustration|œuvre|prompt)|tout|bravo|merci|"
    r"très|à mon|"
    r"selon|dans l'ensemble|globalement|il n'y|rien|puisque|étant donné)",
    saved=r"\b(?:rien|aucune?(?:\s+[\w'-]+){1,3}|pas)\s+(?:d'autre\s+)?(?:que|sauf|excepté|hormis|à part|"
    r"à l'exception|en dehors)\b"
    r"(?!\s+(?:ça|cela))",
    spoken=r"\b(?:écri\w*|dise(?:nt)?|dit|lire|lise|mots?|texte|panneau|affiche|enseigne|titre|lettres|"
    r"mention|inscription|pancarte)\b",
    anew=r"(?:veuillez |merci de )?(?:régénér\w*|(?:recré|refai|redessin|recommenc)\w*\s*(?:(?:l'|la|le|"
    r"une|toute|tout|nouvelle|de)\s*)*(?:image|photo|"
    r"scène|illustration|zéro|début|depuis)|recommenc\w*$|(?:génér|cré|produi|fai)\w*\s+(?:une?|"
    r"l')\s*(?:(?:toute|nouvelle|autre)\s+)*(?:image|photo|"
    r"illustration|version)\b|repart\w* de zéro)",
)

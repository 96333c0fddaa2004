"""How Spanish says that nothing is to change, and what it wants done."""

from rpo_cli.stages.tongues.tongue import Tongue

_NOUN = (
    r"(?:cambios?|modificaci[oó]n(?:es)?|edici[oó]n(?:es)?|ajustes?|correcci[oó]n(?:es)?|retoques?|"
    r"mejoras?|instrucci[oó]n(?:es)?|"
    r"defectos?|problemas?|errore?s?|diferencias?|discrepancias?|intervenci[oó]n(?:es)?|acci[oó]n(?:es)?|"
    r"alteraci[oó]n(?:es)?|"
    r"sugerencias?|objeci(?:ón|ones)|quejas?|fallos?|necesidad|motivo|raz[oó]n|variaci[oó]n(?:es)?|"
    r"inconsistencias?)"
)
_VERB = (
    r"(?:cambi\w*|modifi\w*|edit\w*|ajust\w*|corr[ei]\w*|retoc\w*|retoq\w*|mejor\w*|alter\w*|toc\w*|"
    r"toqu\w*|hacer|hagas?|haga|agreg\w*|añad\w*|"
    r"quit\w*|elimin\w*|necesari\w*|falta|nada|reemplaz\w*|objetar|señalar|intervenir|reparar|arreglar|"
    r"variar)"
)
_SAYS = (
    r"(?:(?:la|el|los|las|esta|este|estos|estas|todo|toda|todos|todas|ya|no|se|por favor|aquí|imagen|"
    r"foto|yo|creo que|considero que|así que|"
    r"que|en|su|me parece que|por mi parte|lo)\b[^;]{0,60}?)?\s*"
)
SPANISH = Tongue(
    split=r"\b(?:pero|y|sino|aunque|porque|pues|sin embargo|ya que|puesto que|así que|luego)\b"
    r"|(?=\b(?:excepto|salvo|menos|a excepción|aparte de|con excepción)\b)",
    nothing=(
        r"(?:que )?(?:se )?qu[eé]d\w+\b[^;]*\b(?:como|igual|así|tal)\b|así se queda",
        rf"{_SAYS}\b(?:ning[uú]n\w*|sin|cero|tampoco)\s+(?:[\w-]+\s+){{0,3}}?{_NOUN}\b",
        rf"{_SAYS}\bno\s+(?:[\w-]+\s+){{0,5}}?(?:{_VERB}|{_NOUN})\b",
        rf"{_SAYS}\bnada\s+(?:más\s+)?(?:que|por|para|de)\s+(?:[\w-]+\s+){{0,2}}?{_VERB}",
        rf"(?:por favor )?{_VERB}\s+nada\b",
        rf"(?:(?:los|las|otros|otras|más|m[aá]s|nuevas)\s+)*{_NOUN}\s+(?:[^;]{{0,30}}?\s)?(?:no\s+(?:es|"
        rf"son|hacen?|se)|innecesari\w+|sobran?)\b",
        r"(?:por favor )?(?:se (?:puede|debe) )?(?:dej(?:a|ar|e|en|ad|arla|arlo|adla|emos|ala|alo)|"
        r"mant(?:én|en|ener|enga|engan|enerla|enerlo|enla|"
        r"engamos)|conserv(?:a|ar|e|en|arla|arlo)|preserv(?:a|ar|e)|permane\w+|"
        r"qued\w+)\b(?![^;]*\b(?:solo|sólo|solamente|únicamente|un|uno|una|dos)\b)"
        r"(?!\s+de\b)(?![^;]*\b(?:caer|entrar|ver|vací\w+|libre)\b)",
        rf"{_SAYS}(?:puede|pueden|debe|debería)\s+(?:quedar\w*|dejar\w*|permanecer|mantener\w*|"
        rf"conservar\w*)\b",
        r"(?:tod[oa]s?)\b(?![^;]*\b(?:demasiado|no|falta\w*|salvo|mal|debe\w*)\b)[^;]*\b(?:está[n]?|es|"
        r"son|han sido|ha sido|parece[n]?)\b",
        rf"(?:cualquier|tod[oa]) (?:otr[oa] )?{_NOUN}\s+[^;]*ría\b|ya (?!no\b)|así (?:está|es|queda)|"
        rf"así$|imagen\s+(?:correcta|perfecta|bien|ok)$",
        rf"{_SAYS}(?:muestra|ilustra|plasma|recoge|capta)\s+(?:bien|fielmente|correctamente|"
        rf"perfectamente|exactamente)\b",
        rf"{_SAYS}(?:ya |plenamente |perfectamente |bien |totalmente |fielmente )*(?:coincide[n]?|"
        rf"cumple[n]?|corresponde[n]?|refleja[n]?|se ajusta[n]?|"
        r"respeta[n]?|concuerda[n]?|satisface[n]?|encaja[n]?|sigue[n]?|representa[n]? (?:bien|fielmente|"
        r"correctamente))\b",
        rf"{_SAYS}(?:est[aá]n?|es|son|parece|luce|queda)\s+(?:[\w-]+\s+){{0,3}}?(?:bien|perfect\w+|"
        rf"correct\w+|fiel|buen\w*|en orden|complet\w+|impecable|"
        r"ideal|adecuad\w+|exact\w+|correctamente|acertad\w+|como (?:está|se pid\w+))\b",
        r"(?:la|el|los|las|esta|este|todo|todos)\b[^;]*\bya\b(?!\s+no\b)",
        r"(?:ninguno|ninguna|nada|no|perfect[oa]|correct[oa]|sin cambios|no aplica|n/a|igual|tal cual|"
        r"todo (?:bien|correcto|perfecto|en orden)|está bien|"
        r"muy bien|no (?:es )?necesario|innecesario|ok)$",
        r"(?:innecesario|no es necesario|no hace falta|no se requiere)\b",
        r"(?:estoy|estamos)\s+(?:\w+\s+)?(?:satisfech\w+|content\w+|conforme)\b",
    ),
    doing=r"(?:(?:por favor|solo|sólo|solamente|luego|también|en cambio|mejor|hay que|se debe|"
    r"únicamente)\s+)*(?:añad\w*|agreg\w*|quit\w*|elimin\w*|"
    r"cambi\w*|modifi\w*|reempla[zc]\w*|coloqu\w*|corrij\w*|asegúr\w*|sustitu\w*|haz|hacer|haga\w*|pon|"
    r"poner|ponga\w*|pint\w*|colore\w*|"
    r"muev\w*|mover|agrand\w*|reduc\w*|reduzc\w*|"
    r"escrib\w*|borr\w*|dibuj\w*|corrig\w*|corregir|gir\w*|coloc\w*|da|dar|dale|aument\w*|aclar\w*|"
    r"oscure\w*|insert\w*|transform\w*|convier\w*|convirt\w*|"
    r"inclin\w*|recort\w*|retir\w*|inclu\w*|ajust\w*|haz que|sube|baja|alarg\w*|acort\w*|que (?:el|la|"
    r"los|las|sea|se|no)|excepto\b|salvo\b|menos\b|"
    r"a excepción\b|aparte de\b(?! eso)|con excepción\b|solo\b|sólo\b|únicamente\b)\b",
    demand=r"^(?:abr[ea]|arregl\w+|complet[ae]|intercambi\w+|enciend\w+|apag\w+|quítal\w+|quítel\w+|"
    r"ponl\w+|"
    r"alis\w+|no muestr\w+|muestr[ae]|más \w+|menos \w+|(?:dej|conserv)\w+ (?:solo|sólo|únicamente|"
    r"un solo))\b|\b(?:necesita (?!ning|más cambios)|quiero|quisiera|me gustaría|debe|deben|debería|"
    r"deberían|podría|hay que|demasiado|"
    r"en lugar|en vez|falta|un poco|"
    r"tendría|tiene que|que sea|para que)\b",
    statement=r"(?:la|el|los|las|esta|este|estos|todo|toda|todos|ya|se|imagen|foto|creo|considero|muy|"
    r"bien|perfecto|excelente|sí|no|ninguno|gracias|como|"
    r"dado|instrucci\w*|cambios|está|es)\b",
    remark=r"(?:yo|creo|considero|opino|pienso|diría|estoy|no (?:veo|encuentro|tengo|creo|considero|"
    r"haría|cambiaría)|"
    r"(?:la|el|esta|este|su) (?:[\w-]+ ){0,3}?(?:imagen|foto|resultado|composición|escena|prompt|"
    r"descripción|"
    r"ilustración|obra)|todo|esto|está|es|así|muy|gracias|excelente|en (?:general|mi)|dado que|"
    r"puesto que|ya que)\b",
    saved=r"\b(?:nada|ning[uú]n\w*(?:\s+[\w-]+){0,3})\s+(?:más\s+)?(?:que(?!\s+(?:cambiar|corregir|"
    r"modificar|hacer|ajustar|editar|mejorar|retocar|"
    r"añadir|agregar|quitar|objetar|señalar|arreglar))|excepto|salvo|menos|sino|a excepción|"
    r"aparte de(?! eso))\b",
    spoken=r"\b(?:escrib\w*|diga\w*|dice|lea|leer|palabras?|texto|cartel|letrero|título|letras|rótulo|"
    r"etiqueta|pancarta)\b",
    anew=r"(?:por favor )?(?:regenera\w*|(?:vuelv\w*|volver) a (?:generar|crear|dibujar|hacer)|(?:gener|"
    r"cre|produ|hac|haz|haga)\w*\s+(?:una?|la|el|otra|otro)\s+"
    r"(?:(?:completamente|totalmente|nueva|otra)\s+)*(?:imagen|foto|ilustración|versión|nueva imagen)\b|"
    r"(?:recre|redibuj|rehaz|rehac)\w*\s*(?:(?:toda|por|completo|"
    r"la|el|una)\s+)*(?:imagen|foto|escena)\b|empez\w* de (?:nuevo|cero)|empiez\w* de (?:nuevo|cero))",
)

"""How Italian, Portuguese, Russian, Japanese and Korean say that nothing is to change, in short."""

from rpo_cli.stages.tongues.tongue import Tongue

OTHERS = Tongue(
    split=r"\b(?:ma|e|però|mas|porém|но|и|а)\b|(?:が、|けど|지만|하고)",
    nothing=(
        # Italian, Portuguese
        r"(?:non\s+(?:[\w']+\s+){0,4}?(?:modific\w*|cambi\w*|corregg\w*|alter\w*|ritocc\w*|necessari\w*|"
        r"serv\w*|niente|nulla)|(?:nessuna?|alcuna?|senza)\s+(?:[\w']+\s+)"
        r"{0,2}?(?:modific\w+|cambiament\w+|correzion\w+|ritocc\w+|difett\w+|problem\w+|error\w+)|"
        r"(?:niente|nulla)\s+da\b|(?:lasci\w+|mantien\w+|mantener\w+|conserv\w+)\b"
        r"[^;]*(?:così|com'è|come|invariat\w+|intatt\w+)|l'immagine\s+(?:è già|è perfett|corrispond|"
        r"rispett|va bene)\w*|(?:va bene|tutto) (?:così|corretto|a posto)|nessuna$)",
        r"(?:(?:não|nao)\s+(?:[\w]+\s+){0,4}?(?:alter\w*|mud\w*|modific\w*|edit\w*|corrig\w*|necess\w*|"
        r"precis\w*|mexa\w*)|(?:nenhuma?|sem)\s+(?:\w+\s+){0,2}?(?:altera\w+|mudan\w+|"
        r"modifica\w+|edi\w+|corre\w+|ajust\w+|problem\w+|err\w+|defeit\w+)|nada\s+(?:a|para|que)\b|"
        r"(?:mant\w+|deix\w+|conserv\w+)\b[^;]*(?:como|igual|assim|tal)|a imagem\s+"
        r"(?:já|está (?:perfeita|correta|boa)|correspond\w+)|nenhuma$)",
        # Russian
        r"(?:[^;]{0,40}?(?:не\s+(?:\w+\s+){0,3}?(?:изменя\w*|меня\w*|редактир\w*|исправля\w*|требу\w*|"
        r"нуж\w*|трога\w*|правит?ь)|изменени\w+ не|нет\s+(?:\w+\s+){0,2}?(?:необходимост\w+|ошиб\w+|"
        r"недостат\w+|замечани\w+)|без\s+изменений|ничего)|остав\w+[^;]*(?:как|без|так)|"
        r"сохран\w+[^;]*(?:как|без)|(?:изображение|картинка|всё|все)\s+(?:уже|полностью|соответству\w+|"
        r"верно|правильно|отлично|хорошо)|нет$)",
        # Japanese, Korean
        r"[^;]{0,24}(?:(?:変更|修正|編集|調整|改善|手直し)[^;]{0,8}(?:不要|必要(?:は|が)?(?:あり|ない|"
        r"なし)|ありません|なし|しない)|そのまま|現状のまま|何も(?:変え|変更|修正|する)|問題(?:は|"
        r"が)?(?:あり|ない|なし)|"
        r"(?:一致|合致)して(?:い|お)|完璧|特になし)",
        r"[^;]{0,24}(?:(?:변경|수정|편집|조정|보정)[^;]{0,12}(?:필요\s*(?:가|는)?\s*없|필요하지 않|"
        r"불필요|하지 않|하지 마|없)|그대로|유지|문제\s*(?:가|는)?\s*없|완벽|일치합|이미|없음)",
    ),
    doing=r"(?:aggiung\w*|rimuov\w*|cambi\w*|rendi|sposta\w*|adicion\w*|remov\w*|mud\w*|torn\w*|faça|"
    r"coloque|добав\w*|убер\w*|удал\w*|сделай\w*|замен\w*|измен\w*|перемест\w*)\b",
    demand=r"(?:\bdovrebbe\b|\bdeve\b|\bdevem?\b|\bдолж\w+|してください(?<!ないでください)|に変え|を追加|"
    r"を削除|추가|삭제|제거|바꾸|바꿔|만들)",
    statement=r"(?:l'|la|il|a|o|as|os|tudo|tutto|изображение|картинка|все|всё|画像|この|全て|이미지|그림|"
    r"모든|이)",
    remark=r"(?:io|l'immagine|la foto|tutto|eu|a imagem|tudo|я|изображение|картинка|всё|все|この?画像|"
    r"画像|全て|이미지|그림|사진)",
    saved=r"\b(?:nient'altro che|nulla tranne|niente tranne|tranne|nada (?:além|exceto|a não ser)|exceto|"
    r"кроме|за исключением)\b|以外|を除|제외|말고",
    spoken=r"\b(?:scriv\w*|scritta|leg\w*|testo|escrev\w*|texto|placa|напиш\w*|надпис\w*|текст\w*|"
    r"слов\w*)|文字|書|看板|글자|문구|쓰",
    anew=r"(?:(?:genera|crea)\w* di nuovo|rigener\w*|regener\w*|(?:gere|crie|genera|crea)\s+(?:uma|un'|"
    r"una)\s*(?:nova|nuova)?\s*(?:imagem|immagine)|(?:пере|с)?генерир\w*|(?:создай\w*|"
    r"нарисуй\w*) (?:новое|заново)|.{0,6}(?:再生成|作り直|描き直)|.{0,10}"
    r"(?:다시 (?:생성|그려|만들)|재생성|새로운? (?:이미지|그림)))",
)

/** Pieces of llama.cpp's grammar notation: rules that every grammar here may use, and texts as literals. */

export const commonRules = [
  'ws ::= " "?',
  // No escapes of surrogates: two of them are one character, and lengths count characters.
  'hex ::= [0-9a-fA-F]',
  'char ::= [^"\\\\\\x7F\\x00-\\x1F] | "\\\\" (["\\\\/bfnrt] | "u" ([0-9a-cA-CefEF] hex | [dD] [0-7]) hex hex)',
  'string ::= "\\"" char* "\\""',
  'plain ::= [^"\\\\\\x7F\\x00-\\x1F]',
  'integer ::= "-"? ("0" | [1-9] [0-9]{0,15})',
  'number ::= integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?',
  'boolean ::= "true" | "false"',
  'null ::= "null"',
  'pair ::= string ":" ws value',
  'object ::= "{" (pair ("," ws pair)*)? "}"',
  'array ::= "[" (value ("," ws value)*)? "]"',
  'value ::= object | array | string | number | boolean | null',
  // No 29th of February: whether there is one, a grammar cannot tell.
  'day28 ::= "0" [1-9] | "1" [0-9] | "2" [0-8]',
  'day30 ::= day28 | "29" | "30"',
  'month30 ::= "04" | "06" | "09" | "11"',
  'month31 ::= "01" | "03" | "05" | "07" | "08" | "10" | "12"',
  'date ::= [0-9]{4} "-" ("02-" day28 | month30 "-" day30 | month31 "-" (day30 | "31"))',
  'time ::= ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [-+] ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9])',
  'uuid ::= [0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
]

/** A JSON value as a GBNF literal. */
export function literal(value: unknown): string {
  return quote(JSON.stringify(value) ?? 'null')
}

/** A text as a GBNF literal. */
export function quote(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}

/** A character as it may stand in a GBNF class. */
export function inClass(character: string): string {
  return /[\]\\^[-]/.test(character)
    ? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
    : character
}

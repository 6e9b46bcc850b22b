import { fail } from '../src/core/errors.ts'
import { isObject, show } from './parameters.ts'

/**
 * Writes a JSON schema as a GBNF grammar, so that a reply cannot break it. What a grammar cannot express is refused
 * by its keyword: a constraint that is dropped in silence would be a promise broken. Every reply is valid under the
 * schema; the reverse does not hold: keys come in a fixed order, the required ones first.
 */
export function writeGrammar(schema: unknown, param: string): string {
  const writer = new GrammarWriter(schema, param)
  return writer.finish(writer.visit(schema, param, []))
}

/** A call of one of `tools`: `{"name": …, "arguments": …}`. */
export function writeToolGrammar(
  tools: readonly { name: string; parameters: unknown; param: string }[],
): string {
  const calls: string[] = []
  const rules: string[] = []
  for (const [i, tool] of tools.entries()) {
    const writer = new GrammarWriter(tool.parameters, tool.param, `t${i}-`)
    const found = writer.visit(tool.parameters, tool.param, [])
    rules.push(...writer.rules)
    calls.push(`"{\\"name\\":" ws ${literal(tool.name)} "," ws "\\"arguments\\":" ws ${found} "}"`)
  }
  return [`root ::= ${calls.join(' | ')}`, ...rules, ...commonRules].join('\n')
}

const commonRules = [
  'ws ::= " "?',
  'char ::= [^"\\\\\\x7F\\x00-\\x1F] | "\\\\" (["\\\\/bfnrt] | "u" [0-9a-fA-F]{4})',
  'string ::= "\\"" char* "\\""',
  'integer ::= "-"? ("0" | [1-9] [0-9]{0,15})',
  'number ::= integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?',
  'boolean ::= "true" | "false"',
  'null ::= "null"',
  'pair ::= string ":" ws value',
  'object ::= "{" (pair ("," ws pair)*)? "}"',
  'array ::= "[" (value ("," ws value)*)? "]"',
  'value ::= object | array | string | number | boolean | null',
  'date ::= [0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [1-2] [0-9] | "3" [0-1])',
  'time ::= ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [-+] ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9])',
  'uuid ::= [0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
]

const formats: Record<string, string> = {
  date: '"\\"" date "\\""',
  time: '"\\"" time "\\""',
  'date-time': '"\\"" date "T" time "\\""',
  uuid: '"\\"" uuid "\\""',
}

/** Keywords that say something about a value, but forbid nothing. */
const annotations = new Set([
  ...['title', 'description', 'default', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'strict'],
])
/** Keywords that a grammar can keep to, by the type they belong to. */
const keywordsOf: Record<string, readonly string[]> = {
  string: ['minLength', 'maxLength', 'format'],
  array: ['items', 'minItems', 'maxItems'],
  object: ['properties', 'required', 'additionalProperties'],
  integer: [],
  number: [],
  boolean: [],
  null: [],
}
const allKeywords = new Set(Object.values(keywordsOf).flat())

const nodesMax = 2000
const repetitionsMax = 1000

type Schema = Readonly<Record<string, unknown>>

class GrammarWriter {
  readonly rules: string[] = []
  readonly #root: unknown
  readonly #param: string
  readonly #prefix: string
  readonly #references = new Map<string, string>()
  #nodes = 0

  constructor(root: unknown, param: string, prefix = 'r-') {
    this.#root = root
    this.#param = param
    this.#prefix = prefix
  }

  finish(expression: string): string {
    return [`root ::= ${expression}`, ...this.rules, ...commonRules].join('\n')
  }

  /**
   * The name of a rule, or an expression in brackets, for `schema`. `aliases` are the references that lead here
   * without a character in between: coming back to one of them would be a rule that begins with itself.
   */
  visit(schema: unknown, path: string, aliases: readonly string[]): string {
    this.#nodes += 1
    if (this.#nodes > nodesMax) throw this.#refuse(path, `has more than ${nodesMax} parts`)
    if (schema === true) return 'value'
    if (!isObject(schema)) throw this.#refuse(path, `is ${show(schema)}; it must be a schema`)
    if (schema['$ref'] !== undefined) return this.#visitReference(schema, path, aliases)
    if (schema['const'] !== undefined) return literal(schema['const'])
    if (schema['enum'] !== undefined) return this.#visitEnum(schema, path)
    const union = schema['anyOf'] ?? schema['oneOf']
    if (union !== undefined) {
      this.#assertKnown(schema, path, ['anyOf', 'oneOf', 'type'])
      return `(${this.#list(union, path)
        .map((item, i) => this.visit(item, `${path}.anyOf[${i}]`, aliases))
        .join(' | ')})`
    }
    const types = typesOf(schema)
    this.#assertKnown(schema, path, ['type', ...types.flatMap((type) => keywordsOf[type] ?? [])])
    const expressions = types.map((type) => this.#visitType(type, schema, path))
    return expressions.length === 1 ? (expressions[0] as string) : `(${expressions.join(' | ')})`
  }

  #visitType(type: string, schema: Schema, path: string): string {
    if (type === 'string') return this.#visitString(schema, path)
    if (type === 'array') return this.#visitArray(schema, path)
    if (type === 'object') return this.#visitObject(schema, path)
    if (type === 'value' || Object.hasOwn(keywordsOf, type)) return type
    throw this.#refuse(`${path}.type`, `is ${show(type)}; that is not a type`)
  }

  #visitReference(schema: Schema, path: string, aliases: readonly string[]): string {
    const reference = schema['$ref']
    this.#assertKnown(schema, path, ['$ref'])
    const known = this.#references.get(String(reference))
    if (aliases.includes(String(reference))) throw this.#refuse(`${path}.$ref`, 'leads back to itself')
    if (known !== undefined) return known
    const target = this.#resolve(reference, path)
    const name = `${this.#prefix}ref${this.#references.size}`
    this.#references.set(String(reference), name)
    this.rules.push(`${name} ::= ${this.visit(target, path, [...aliases, String(reference)])}`)
    return name
  }

  #resolve(reference: unknown, path: string): unknown {
    if (typeof reference !== 'string' || !(reference === '#' || reference.startsWith('#/'))) {
      throw this.#refuse(
        `${path}.$ref`,
        `is ${show(reference)}; only references within the schema are followed`,
      )
    }
    let found: unknown = this.#root
    for (const part of reference.split('/').slice(1)) {
      const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
      found = isObject(found) && Object.hasOwn(found, key) ? found[key] : undefined
    }
    if (found === undefined) throw this.#refuse(`${path}.$ref`, `is ${show(reference)}; nothing is there`)
    return found
  }

  #visitEnum(schema: Schema, path: string): string {
    this.#assertKnown(schema, path, ['enum', 'type'])
    return `(${this.#list(schema['enum'], `${path}.enum`).map(literal).join(' | ')})`
  }

  #visitString(schema: Schema, path: string): string {
    const format = schema['format']
    if (format !== undefined) {
      const known = typeof format === 'string' && Object.hasOwn(formats, format) ? formats[format] : undefined
      if (known === undefined) throw this.#unsupported(`${path}.format`, `format ${show(format)}`)
      return `(${known})`
    }
    const range = this.#range(schema, path, 'Length')
    return range === '*' ? 'string' : `("\\"" char${range} "\\"")`
  }

  #visitArray(schema: Schema, path: string): string {
    const item = this.visit(schema['items'] ?? true, `${path}.items`, [])
    const min = this.#bound(schema, path, 'minItems') ?? 0
    const max = this.#bound(schema, path, 'maxItems')
    if (max !== null && max < min) throw this.#refuse(`${path}.maxItems`, 'is less than minItems')
    if (max === 0) return '"[]"'
    const more = `("," ws ${item}){${Math.max(0, min - 1)},${max === null ? '' : max - 1}}`
    const filled = `${item} ${more}`
    return `("[" ${min === 0 ? `(${filled})?` : filled} "]")`
  }

  #visitObject(schema: Schema, path: string): string {
    const properties = schema['properties'] ?? {}
    if (!isObject(properties)) throw this.#refuse(`${path}.properties`, 'must be an object')
    const required = new Set(schema['required'] === undefined ? [] : this.#list(schema['required'], path))
    const extra = schema['additionalProperties'] ?? Object.keys(properties).length === 0
    const pairs = { required: [] as string[], optional: [] as string[] }
    for (const [key, value] of Object.entries(properties)) {
      const pair = `${literal(key)} ":" ws ${this.visit(value, `${path}.properties.${key}`, [])}`
      pairs[required.delete(key) ? 'required' : 'optional'].push(pair)
    }
    for (const key of required) {
      if (extra === false)
        throw this.#refuse(`${path}.required`, `names ${show(key)}, which properties lacks`)
      pairs.required.push(`${literal(key)} ":" ws ${this.visit(extra, path, [])}`)
    }
    const rest = extra === false ? '' : this.#extraPairs(extra, path)
    const rule = `${this.#prefix}obj${this.rules.length}`
    this.rules.push(`${rule} ::= "{" ${this.#joinPairs(rule, pairs, rest)} "}"`)
    return rule
  }

  #extraPairs(extra: unknown, path: string): string {
    return `string ":" ws ${this.visit(extra, `${path}.additionalProperties`, [])}`
  }

  /** Required pairs, then any of the optional ones in order, then further ones, with commas between those present. */
  #joinPairs(rule: string, pairs: { required: string[]; optional: string[] }, extra: string): string {
    const { required, optional } = pairs
    const more = extra === '' ? '' : `("," ws ${extra})*`
    // tail i: what may follow once something stands before it, from optional pair i on.
    const tail = (i: number) => (i < optional.length ? `${rule}-tail${i}` : more)
    for (const [i, pair] of optional.entries()) {
      this.rules.push(`${rule}-tail${i} ::= ("," ws ${pair})? ${tail(i + 1)}`)
    }
    if (required.length > 0) return `${required.join(' "," ws ')} ${tail(0)}`
    const starts = optional.map((pair, i) => `${pair} ${tail(i + 1)}`)
    if (extra !== '') starts.push(`${extra} ${more}`)
    return starts.length === 0 ? '' : `(${starts.join(' | ')})?`
  }

  #range(schema: Schema, path: string, noun: 'Length'): string {
    const min = this.#bound(schema, path, `min${noun}`) ?? 0
    const max = this.#bound(schema, path, `max${noun}`)
    if (max !== null && max < min) throw this.#refuse(`${path}.max${noun}`, `is less than min${noun}`)
    return min === 0 && max === null ? '*' : `{${min},${max ?? ''}}`
  }

  #bound(schema: Schema, path: string, keyword: string): number | null {
    const value = schema[keyword]
    if (value === undefined) return null
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= repetitionsMax) {
      return value as number
    }
    throw this.#refuse(
      `${path}.${keyword}`,
      `is ${show(value)}; it must be a whole number from 0 to ${repetitionsMax}`,
    )
  }

  #list(value: unknown, path: string): unknown[] {
    if (Array.isArray(value) && (value.length > 0 || path.endsWith('required'))) return value
    throw this.#refuse(path, 'holds an empty list, or none where one must be')
  }

  #assertKnown(schema: Schema, path: string, known: readonly string[]): void {
    for (const keyword of Object.keys(schema)) {
      if (annotations.has(keyword) || known.includes(keyword)) continue
      // A keyword of another type says nothing about values of this one.
      if (allKeywords.has(keyword) && typeof schema['type'] === 'string') continue
      throw this.#unsupported(`${path}.${keyword}`, `the keyword \`${keyword}\``)
    }
  }

  #unsupported(path: string, what: string) {
    return fail('unsupported_parameter', {
      message: `${what} at \`${path}\` cannot be kept to by a grammar. Leave it out.`,
      param: path.slice(0, 200),
    })
  }

  #refuse(path: string, what: string) {
    return fail('invalid_request', {
      message: `\`${path.slice(0, 200)}\` ${what}.`,
      param: this.#param,
    })
  }
}

/** The types a schema allows; without `type` they follow from its keywords. */
function typesOf(schema: Schema): string[] {
  const type = schema['type']
  if (typeof type === 'string') return [type]
  if (Array.isArray(type) && type.length > 0) return type.map(String)
  for (const [name, keywords] of Object.entries(keywordsOf)) {
    if (keywords.some((keyword) => schema[keyword] !== undefined)) return [name]
  }
  return ['value']
}

/** A JSON value as a GBNF literal. */
export function literal(value: unknown): string {
  const json = JSON.stringify(value) ?? 'null'
  return `"${json.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}

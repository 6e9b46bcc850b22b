import { fail } from '../src/core/errors.ts'
import { commonRules, inClass, literal, quote } from './gbnf.ts'
import { isObject, show } from './parameters.ts'
import { allKeywords, annotations, formats, guessTypes, keywordsOf } from './schema-keywords.ts'
import {
  Disjointness,
  findConflict,
  intersectTypes,
  numericKeywords,
  type Schema,
  typeNames,
  valueKeywords,
} from './schema-values.ts'

/**
 * Writes a JSON schema as a GBNF grammar, so that a reply cannot break it. What a grammar cannot express is refused
 * by its keyword: a constraint that is dropped in silence would be a promise broken. Every reply is valid under the
 * schema; the reverse does not hold: keys come in a fixed order, the required ones first.
 */
export function writeGrammar(schema: unknown, param: string): string {
  const writer = new GrammarWriter(schema, param)
  return writer.finish(writer.visit(schema, param, []))
}

const nodesMax = 2000
const repetitionsMax = 1000
/** Characters of the keys of an object that further keys must differ from. */
const keyCharactersMax = 2000

/** Visits one schema and collects the rules of its parts. */
export class GrammarWriter {
  readonly rules: string[] = []
  readonly #root: unknown
  readonly #param: string
  readonly #prefix: string
  readonly #references = new Map<string, string>()
  readonly #disjointness = new Disjointness((reference) => this.#find(reference))
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
    if (schema['$id'] !== undefined && schema !== this.#root) {
      throw this.#unsupported(`${path}.$id`, 'the keyword `$id` below the top')
    }
    if (schema['$ref'] !== undefined) return this.#visitReference(schema, path, aliases)
    const types = this.#readTypes(schema, path)
    if (schema['const'] !== undefined || schema['enum'] !== undefined) return this.#visitValues(schema, path)
    if (schema['anyOf'] !== undefined || schema['oneOf'] !== undefined) {
      return this.#visitUnion(schema, path, { types, aliases })
    }
    const chosen = types ?? guessTypes(schema)
    this.#assertKnown(schema, path, [
      'type',
      ...chosen.flatMap((type) => keywordsOf[type] ?? []),
      // With a type, keywords of other types say nothing about its values.
      ...(types === null ? [] : allKeywords),
    ])
    if (schema['format'] !== undefined) this.#readFormat(schema, path)
    const expressions = chosen.map((type) => this.#visitType(type, schema, path))
    return expressions.length === 1 ? (expressions[0] as string) : `(${expressions.join(' | ')})`
  }

  /** What `type` allows; null where it is absent. */
  #readTypes(schema: Schema, path: string): string[] | null {
    const type = schema['type']
    if (type === undefined) return null
    const types = new Set<string>()
    for (const name of this.#list([type].flat(), `${path}.type`)) {
      const known = typeNames.find((candidate) => candidate === name)
      if (known === undefined) throw this.#refuse(`${path}.type`, `is ${show(name)}; that is not a type`)
      types.add(known)
    }
    // Each integer is a number already: two ways to write the same would only make the grammar ambiguous.
    if (types.has('number')) types.delete('integer')
    return [...types]
  }

  /** `const` and `enum`: those of their values that every other keyword allows. */
  #visitValues(schema: Schema, path: string): string {
    this.#assertKnown(schema, path, valueKeywords, schema['const'] === undefined ? 'enum' : 'const')
    for (const name of numericKeywords) {
      const limit = schema[name]
      if (limit === undefined || typeof limit === 'number') continue
      throw this.#refuse(`${path}.${name}`, `is ${show(limit)}; it must be a number`)
    }
    if (schema['required'] !== undefined) this.#readRequired(schema, path)
    const values =
      schema['const'] === undefined ? this.#list(schema['enum'], `${path}.enum`) : [schema['const']]
    const [first] = values
    const kept = values.filter((value) => findConflict(value, schema) === null)
    if (kept.length === 0) {
      const keyword = findConflict(first, schema) as string
      throw this.#refuse(`${path}.${keyword}`, `forbids ${show(first)}, and no other value is left`)
    }
    return `(${kept.map((value) => this.#writeValue(value, path)).join(' | ')})`
  }

  #writeValue(value: unknown, path: string): string {
    const json = JSON.stringify(value, (_, part: unknown) => {
      if (typeof part !== 'number' || Number.isFinite(part)) return part
      throw this.#refuse(path, 'holds a number that is too large')
    })
    return quote(json)
  }

  #visitUnion(
    schema: Schema,
    path: string,
    { types, aliases }: { types: string[] | null; aliases: readonly string[] },
  ): string {
    const keyword = schema['anyOf'] === undefined ? 'oneOf' : 'anyOf'
    this.#assertKnown(schema, path, [keyword, 'type'], keyword)
    const place = `${path}.${keyword}`
    const branches = this.#list(schema[keyword], place)
    if (keyword === 'oneOf') this.#assertApart(branches, place)
    const fitting = branches
      .map((branch, i) => this.#narrow(branch, types, `${place}[${i}]`))
      .map((branch, i) => (branch === null ? null : this.visit(branch, `${place}[${i}]`, aliases)))
      .filter((branch) => branch !== null)
    if (fitting.length === 0) throw this.#refuse(`${path}.type`, `is one that no schema of ${keyword} allows`)
    return `(${fitting.join(' | ')})`
  }

  /** A grammar lets any branch through. That is `oneOf` only where no value can fit two of them. */
  #assertApart(branches: readonly unknown[], place: string): void {
    for (const [i, a] of branches.entries()) {
      for (const [k, b] of branches.entries()) {
        if (k <= i || this.#disjointness.isProven(a, b)) continue
        throw fail('unsupported_parameter', {
          message:
            `The keyword \`oneOf\` at \`${place.slice(0, 200)}\` wants exactly one match, but a value might fit its ` +
            `schemas ${i} and ${k} both. Use \`anyOf\`, or tell them apart by \`type\` or by a \`const\` in a required property.`,
          param: place.slice(0, 200),
        })
      }
    }
  }

  /** A branch of a union that has a `type` of its own; null where no value fits both. */
  #narrow(branch: unknown, types: string[] | null, path: string): unknown {
    if (types === null) return branch
    if (branch === true) return { type: types }
    if (!isObject(branch)) return branch
    if (branch['$ref'] !== undefined) {
      throw this.#unsupported(path, 'the keyword `type` beside a union with a `$ref`')
    }
    const own = this.#readTypes(branch, path)
    const common = own === null ? types : intersectTypes(types, own)
    return common.length === 0 ? null : { ...branch, type: common }
  }

  #visitType(type: string, schema: Schema, path: string): string {
    if (type === 'string') return this.#visitString(schema, path)
    if (type === 'array') return this.#visitArray(schema, path)
    if (type === 'object') return this.#visitObject(schema, path)
    return type
  }

  #visitReference(schema: Schema, path: string, aliases: readonly string[]): string {
    const reference = schema['$ref']
    this.#assertKnown(schema, path, ['$ref'], '$ref')
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
    const found = this.#find(reference)
    if (found === undefined) throw this.#refuse(`${path}.$ref`, `is ${show(reference)}; nothing is there`)
    return found
  }

  /** What a reference within the schema leads to; undefined where it leads nowhere. */
  #find(reference: unknown): unknown {
    let found: unknown = this.#root
    for (const part of String(reference).split('/').slice(1)) {
      const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
      found = isObject(found) && Object.hasOwn(found, key) ? found[key] : undefined
    }
    return found
  }

  #visitString(schema: Schema, path: string): string {
    const { min, max } = this.#readLengths(schema, path)
    if (schema['format'] === undefined) {
      return min === 0 && max === null ? 'string' : this.#boundedText(min, max)
    }
    const { text, length } = this.#readFormat(schema, path)
    const beside = min > length.min ? 'minLength' : max !== null && max < length.max ? 'maxLength' : null
    if (beside === null) return `(${text})`
    throw this.#unsupported(
      `${path}.${beside}`,
      `the keyword \`${beside}\` beside format ${show(schema['format'])}`,
    )
  }

  /**
   * llama.cpp counts a repetition together with all that stands around it in the same rule, and refuses too many: so
   * each has a rule to itself, and texts of the same lengths share one.
   */
  #boundedText(min: number, max: number | null): string {
    const name = `${this.#prefix}text${min}-${max ?? 'any'}`
    const rule = `${name} ::= "\\"" char{${min},${max ?? ''}} "\\""`
    if (!this.rules.includes(rule)) this.rules.push(rule)
    return name
  }

  #readFormat(schema: Schema, path: string) {
    const format = schema['format']
    const known = typeof format === 'string' && Object.hasOwn(formats, format) ? formats[format] : undefined
    if (known !== undefined) return known
    throw this.#unsupported(`${path}.format`, `format ${show(format)}`)
  }

  #readLengths(schema: Schema, path: string): { min: number; max: number | null } {
    const min = this.#bound(schema, path, 'minLength') ?? 0
    const max = this.#bound(schema, path, 'maxLength')
    if (max !== null && max < min) throw this.#refuse(`${path}.maxLength`, 'is less than minLength')
    return { min, max }
  }

  #visitArray(schema: Schema, path: string): string {
    const item = this.visit(schema['items'] ?? true, `${path}.items`, [])
    const min = this.#bound(schema, path, 'minItems') ?? 0
    const max = this.#bound(schema, path, 'maxItems')
    if (max !== null && max < min) throw this.#refuse(`${path}.maxItems`, 'is less than minItems')
    if (max === 0) return '"[]"'
    const rule = `${this.#prefix}list${this.rules.length}`
    this.rules.push(
      `${rule}-item ::= ${item}`,
      `${rule}-more ::= "," ws ${rule}-item`,
      `${rule}-all ::= ${rule}-item ${rule}-more{${Math.max(0, min - 1)},${max === null ? '' : max - 1}}`,
      `${rule} ::= "[" ${rule}-all${min === 0 ? '?' : ''} "]"`,
    )
    return rule
  }

  #visitObject(schema: Schema, path: string): string {
    const properties = schema['properties'] ?? {}
    if (!isObject(properties)) throw this.#refuse(`${path}.properties`, 'must be an object')
    const required = new Set(this.#readRequired(schema, path))
    const keys = [...new Set([...Object.keys(properties), ...required])]
    const extra = schema['additionalProperties'] ?? Object.keys(properties).length === 0
    const pairs = { required: [] as string[], optional: [] as string[] }
    for (const [key, value] of Object.entries(properties)) {
      const pair = `${literal(key)} ":" ws ${this.visit(value, `${path}.properties.${key}`, [])}`
      pairs[required.delete(key) ? 'required' : 'optional'].push(pair)
    }
    for (const key of required) {
      if (schema['additionalProperties'] === false)
        throw this.#refuse(`${path}.required`, `names ${show(key)}, which properties lacks`)
      const value = schema['additionalProperties'] ?? true
      pairs.required.push(`${literal(key)} ":" ws ${this.visit(value, `${path}.additionalProperties`, [])}`)
    }
    const rest = extra === false ? '' : this.#extraPairs(extra, keys, path)
    const rule = `${this.#prefix}obj${this.rules.length}`
    this.rules.push(`${rule} ::= "{" ${this.#joinPairs(rule, pairs, rest)} "}"`)
    return rule
  }

  #readRequired(schema: Schema, path: string): string[] {
    const required = schema['required'] ?? []
    if (Array.isArray(required) && required.every((key) => typeof key === 'string')) return required
    throw this.#refuse(`${path}.required`, `is ${show(required)}; it must be an array of names`)
  }

  #extraPairs(extra: unknown, declared: readonly string[], path: string): string {
    const place = `${path}.additionalProperties`
    const value = this.visit(extra, place, [])
    return `${declared.length === 0 ? 'string' : this.#otherKey(declared, place)} ":" ws ${value}`
  }

  /**
   * A key that is none of `declared`: one that repeats a declared key would replace its value by one of another
   * schema. Such keys have no escapes, so that there is only one way to write each.
   */
  #otherKey(declared: readonly string[], place: string): string {
    if (declared.join('').length > keyCharactersMax) {
      throw this.#unsupported(
        place,
        `\`additionalProperties\` beside names of over ${keyCharactersMax} letters`,
      )
    }
    const name = `${this.#prefix}key${this.rules.length}`
    let count = 0
    // Keys with escapes cannot be met by a key without.
    const writeRest = (keys: readonly string[][]): string => {
      const rule = `${name}-${count}`
      count += 1
      const next = Map.groupBy(
        keys.filter((key) => key.length > 0),
        (key) => key[0] as string,
      )
      const others = [...next.keys()].map(inClass).join('')
      const rests = [...next].map(
        ([letter, found]) => `${quote(letter)} ${writeRest(found.map((key) => key.slice(1)))}`,
      )
      const end = keys.some((key) => key.length === 0) ? [] : ['""']
      this.rules.push(
        `${rule} ::= ${[...end, `[^"\\\\\\x7F\\x00-\\x1F${others}] plain*`, ...rests].join(' | ')}`,
      )
      return rule
    }
    const plain = declared.filter((key) => JSON.stringify(key) === `"${key}"` && !key.includes('\x7f'))
    return `"\\"" ${writeRest(plain.map((key) => Array.from(key)))} "\\""`
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
    if (Array.isArray(value) && value.length > 0) return value
    throw this.#refuse(path, 'holds an empty list, or none where one must be')
  }

  #assertKnown(schema: Schema, path: string, known: readonly string[], beside?: string): void {
    for (const keyword of Object.keys(schema)) {
      if (annotations.has(keyword) || known.includes(keyword)) continue
      const place = beside === undefined ? '' : ` beside \`${beside}\``
      throw this.#unsupported(`${path}.${keyword}`, `the keyword \`${keyword}\`${place}`)
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

import { isObject } from './parameters.ts'

/** What a JSON schema says of single values: which types it allows, whether a value breaks it, and whether two meet. */

export type Schema = Readonly<Record<string, unknown>>
type Check = (value: unknown, limit: unknown) => boolean

export const typeNames = ['string', 'array', 'object', 'integer', 'number', 'boolean', 'null'] as const

const lengthOf = (text: string) => Array.from(text).length
const onText = (check: (length: number, limit: number) => boolean) => (value: unknown, limit: unknown) =>
  typeof value !== 'string' || check(lengthOf(value), limit as number)
const onNumber = (check: (value: number, limit: number) => boolean) => (value: unknown, limit: unknown) =>
  typeof value !== 'number' || check(value, limit as number)
const onArray = (check: (length: number, limit: number) => boolean) => (value: unknown, limit: unknown) =>
  !Array.isArray(value) || check(value.length, limit as number)
const onObject = (check: (size: number, limit: number) => boolean) => (value: unknown, limit: unknown) =>
  !isObject(value) || check(Object.keys(value).length, limit as number)
const [atLeast, atMost] = [(a: number, b: number) => a >= b, (a: number, b: number) => a <= b]

/** Keywords that a known value can be held against, and whether it passes. */
const checks: Readonly<Record<string, Check>> = {
  type: (value, types) => [types].flat().some((type) => hasType(value, type)),
  const: (value, other) => isSame(value, other),
  enum: (value, others) => !Array.isArray(others) || others.some((other) => isSame(value, other)),
  minLength: onText(atLeast),
  maxLength: onText(atMost),
  minimum: onNumber(atLeast),
  maximum: onNumber(atMost),
  exclusiveMinimum: onNumber((value, limit) => value > limit),
  exclusiveMaximum: onNumber((value, limit) => value < limit),
  multipleOf: onNumber((value, factor) => Number.isInteger(value / factor)),
  minItems: onArray(atLeast),
  maxItems: onArray(atMost),
  minProperties: onObject(atLeast),
  maxProperties: onObject(atMost),
  required: (value, keys) => !isObject(value) || [keys].flat().every((key) => Object.hasOwn(value, String(key))),
} // prettier-ignore

export const valueKeywords = Object.keys(checks)
/** Those of them whose limit is a number. */
export const numericKeywords = valueKeywords.filter(
  (name) => !['type', 'const', 'enum', 'required'].includes(name),
)

/** The first keyword of `schema` that `value` breaks; null where none is known to be broken. */
export function findConflict(value: unknown, schema: Schema): string | null {
  return valueKeywords.find((name) => name in schema && !checks[name]?.(value, schema[name])) ?? null
}

/** Equality of JSON values: the order of keys does not matter. */
export function isSame(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => isSame(item, b[i]))
  }
  if (!isObject(a) || !isObject(b)) return a === b
  const keys = Object.keys(a)
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && isSame(a[key], b[key]))
  )
}

function hasType(value: unknown, type: unknown): boolean {
  if (type === 'integer') return Number.isInteger(value)
  if (type === 'array') return Array.isArray(value)
  if (type === 'object') return isObject(value)
  if (type === 'null') return value === null
  return typeof value === type
}

/** The types that both allow; every integer is a number too. */
export function intersectTypes(a: readonly string[], b: readonly string[]): string[] {
  const common = a.filter((type) => b.includes(type) || (type === 'integer' && b.includes('number')))
  if (b.includes('integer') && a.includes('number') && !common.includes('integer')) common.push('integer')
  return common
}

const comparisonsMax = 100_000
const depthMax = 8

/**
 * Proves that no value fits two schemas. What it cannot prove counts as meeting; so does what would take too long.
 * `resolve` follows a `$ref`.
 */
export class Disjointness {
  readonly #resolve: (reference: unknown) => unknown
  #comparisons = 0

  constructor(resolve: (reference: unknown) => unknown) {
    this.#resolve = resolve
  }

  isProven(first: unknown, second: unknown, depth = 0): boolean {
    this.#comparisons += 1
    if (depth > depthMax || this.#comparisons > comparisonsMax) return false
    const [a, b] = [this.#follow(first), this.#follow(second)]
    if (!isObject(a) || !isObject(b)) return false
    for (const [one, other] of [[a, b], [b, a]] as const) {
      const branches = one['anyOf'] ?? one['oneOf']
      if (Array.isArray(branches) && branches.every((item) => this.isProven(item, other, depth + 1))) return true
      const values = valuesOf(one)
      this.#comparisons += (values?.length ?? 0) * (valuesOf(other)?.length ?? 1)
      if (this.#comparisons > comparisonsMax) return false
      if (values?.every((value) => findConflict(value, other) !== null)) return true
    } // prettier-ignore
    const common = intersectTypes(declaredTypes(a), declaredTypes(b))
    if (common.length === 0) return true
    return common.every((type) => type === 'object') && this.#haveOtherProperties(a, b, depth)
  }

  /** Whether a key that one of them requires cannot have a value that the other allows. */
  #haveOtherProperties(a: Schema, b: Schema, depth: number): boolean {
    return [[a, b], [b, a]].some(([one, other]) => {
      const required: unknown[] = Array.isArray(one?.['required']) ? one['required'] : []
      return required.some((key) => {
        const [mine, yours] = [propertyOf(one, key), propertyOf(other, key)]
        if (yours === undefined) return other?.['additionalProperties'] === false
        return mine !== undefined && this.isProven(mine, yours, depth + 1)
      })
    })
  } // prettier-ignore

  #follow(schema: unknown): unknown {
    let found = schema
    for (let i = 0; i < depthMax && isObject(found) && found['$ref'] !== undefined; i += 1) {
      found = this.#resolve(found['$ref'])
    }
    return found
  }
}

function propertyOf(schema: Schema | undefined, key: unknown): unknown {
  const properties = schema?.['properties']
  return isObject(properties) && Object.hasOwn(properties, String(key)) ? properties[String(key)] : undefined
}

function valuesOf(schema: Schema): unknown[] | null {
  if (schema['const'] !== undefined) return [schema['const']]
  return Array.isArray(schema['enum']) ? schema['enum'] : null
}

/** Without `type` every type is allowed, whatever the other keywords are about. */
function declaredTypes(schema: Schema): readonly string[] {
  const type = schema['type']
  return type === undefined ? typeNames : [type].flat().map(String)
}

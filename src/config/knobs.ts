import type { TSchema } from 'typebox'
import { ConfigSchema } from './schema.ts'

/** The part of JSON Schema that the configuration uses, as plain data. */
export type Rule = {
  type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean'
  default?: unknown
  description?: string
  /** What a pattern allows, in words. */
  allowed?: string
  enum?: readonly string[]
  minimum?: number
  exclusiveMinimum?: number
  maximum?: number
  minLength?: number
  pattern?: string
  maxItems?: number
  items?: Rule
  required?: readonly string[]
  properties?: Readonly<Record<string, Rule>>
  patternProperties?: Readonly<Record<string, Rule>>
}

/** A schema of the library as the plain JSON Schema that it is. */
export const toRule = (schema: TSchema): Rule => schema

export const configRule = toRule(ConfigSchema)

/** The rule of the values of a mapping with free names, or null for anything else. */
export function ruleOfEntries(rule: Rule): Rule | null {
  return rule.patternProperties ? (Object.values(rule.patternProperties)[0] ?? null) : null
}

/** One setting that can be given: everything but the sections themselves. */
type Knob = { path: readonly string[]; rule: Rule; variable: string }

/** `['server', 'bodyBytesMax']` -> `AUTOGLM_SERVER_BODY_BYTES_MAX` */
export function toVariable(path: readonly string[]): string {
  const words = path.map((step) => step.replaceAll(/(?=[A-Z])/g, '_').toUpperCase())
  return `AUTOGLM_${words.join('_')}`
}

function list(rule: Rule, path: readonly string[]): Knob[] {
  return Object.entries(rule.properties ?? {}).flatMap(([name, inner]) => {
    const here = [...path, name]
    return inner.properties ? list(inner, here) : [{ path: here, rule: inner, variable: toVariable(here) }]
  })
}

/** Every knob, in the order of the schema. Lists and mappings are one knob each. */
export const knobs: readonly Knob[] = list(configRule, [])

const units: readonly [ending: RegExp, unit: string][] = [
  [/Ms$/, 'milliseconds'],
  [/Bytes(Max)?$/, 'bytes'],
  [/Tokens(Max)?$/, 'tokens'],
]

/** The unit that the end of a name says, or null. `restartDelayMaxMs` -> `milliseconds` */
export function unitOf(name: string): string | null {
  return units.find(([ending]) => ending.test(name))?.[1] ?? null
}

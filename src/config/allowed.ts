import { ruleOfEntries, unitOf, type Rule } from './knobs.ts'

function describeRange(rule: Rule): string {
  const { minimum, exclusiveMinimum, maximum } = rule
  if (exclusiveMinimum !== undefined) return `above ${exclusiveMinimum} and up to ${maximum}`
  return `from ${minimum} to ${maximum}`
}

/** What a knob takes, in words: `a whole number of milliseconds from 1 to 86400000`. */
export function describeAllowed(rule: Rule, name: string): string {
  if (rule.allowed) return rule.allowed
  if (rule.enum) return `one of ${rule.enum.join(', ')}`
  if (rule.properties) return `a section with ${Object.keys(rule.properties).join(', ')}`
  const entries = ruleOfEntries(rule)
  if (entries) return `a mapping from a name to ${describeAllowed(entries, '')}`
  const unit = unitOf(name)
  switch (rule.type ?? 'object') {
    case 'integer':
      return `a whole number ${unit ? `of ${unit} ` : ''}${describeRange(rule)}`
    case 'number':
      return `a number ${unit ? `of ${unit} ` : ''}${describeRange(rule)}`
    case 'boolean':
      return 'true or false'
    case 'array':
      return `a list of at most ${rule.maxItems} ${rule.items?.properties ? 'entries' : 'names'}`
    case 'string':
      return rule.minLength ? 'a text that is not empty' : 'a text'
    case 'object':
      return 'a mapping'
  }
}

/** A default as one would write it in the file; null when leaving it out means nothing in particular. */
export function describeDefault(rule: Rule): string | null {
  const value = rule.default
  if (value === undefined || value === '' || rule.type === 'object') return null
  if (Array.isArray(value)) return value.length === 0 ? null : JSON.stringify(value)
  return String(value)
}

/** `a whole number from 0 to 65535 (default 8080)`, for a message: without the backticks of the docs. */
export function describeRule(rule: Rule, name: string): string {
  const value = describeDefault(rule)
  const allowed = describeAllowed(rule, name).replaceAll('`', '')
  return value === null ? allowed : `${allowed} (default ${value})`
}

import type { TSchema } from 'typebox'
import { Check } from 'typebox/value'
import { describeRule } from './allowed.ts'
import { configRule, knobs, ruleOfEntries, type Rule } from './knobs.ts'
import { showValue, type Path } from './problem.ts'
import { suggest } from './suggest.ts'

/** A mistake before it is known where the value was written. `at` says whether the key or its value is at fault. */
export type Finding = { path: Path; at: 'key' | 'value'; shown: string | null; what: string }

type Report = (finding: Finding) => void

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** These hold secrets when someone errs, so their values never reach a message. */
const isSecretPlace = (path: Path) =>
  ['apiKeyEnv', 'passwordEnv', 'secretEnv', 'keySecretEnv'].includes(String(path.at(-1)))

const nameOf = (path: Path) => path.findLast((step) => typeof step === 'string') ?? ''

function refuse(rule: Rule, value: unknown, path: Path, report: Report): undefined {
  const shown = isSecretPlace(path) ? '(not shown)' : showValue(value)
  report({ path, at: 'value', shown, what: `is not allowed; ${describeRule(rule, nameOf(path))}` })
  return undefined
}

/** Where a misplaced or mistyped name belongs: beside its siblings first, then anywhere in the file. */
function findNameFor(name: string, siblings: readonly string[]): string | null {
  const near = suggest(name, siblings)
  if (near !== null) return near
  const elsewhere = knobs.find((knob) => knob.path.at(-1) === name)
  if (!elsewhere) return null
  // Its bare name would be the very name that is refused here.
  return elsewhere.path.length === 1 ? `${name} at the top of the file` : elsewhere.path.join('.')
}

function fillSection(rule: Rule, value: Record<string, unknown>, path: Path, report: Report): unknown {
  const properties = rule.properties ?? {}
  const names = Object.keys(properties)
  for (const name of Object.keys(value)) {
    if (Object.hasOwn(properties, name)) continue
    const meant = findNameFor(name, names)
    report({
      path: [...path, name],
      at: 'key',
      shown: null,
      what: meant === null ? `unknown; known here: ${names.join(', ')}` : `unknown; did you mean ${meant}?`,
    })
  }
  return Object.fromEntries(
    Object.entries(properties).map(([name, inner]) => {
      const given = Object.hasOwn(value, name) ? value[name] : undefined
      return [name, fill(inner, given, [...path, name], report)]
    }),
  )
}

function fillMapping(rule: Rule, value: Record<string, unknown>, path: Path, report: Report): unknown {
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, fill(rule, inner, [...path, name], report)]),
  )
}

function fill(rule: Rule, value: unknown, path: Path, report: Report): unknown {
  const isContainer = rule.type === 'object' || rule.type === 'array'
  // A section whose lines are all commented out reads as null: that is a section left out.
  if (value === undefined || (value === null && isContainer && rule.default !== undefined)) {
    if (rule.default === undefined) {
      const allowed = describeRule(rule, nameOf(path))
      report({ path, at: 'value', shown: null, what: `is missing; ${allowed}` })
      return undefined
    }
    if (!isContainer) return rule.default
    return fill(rule, rule.type === 'array' ? rule.default : {}, path, report)
  }
  const entries = ruleOfEntries(rule)
  if (rule.type === 'object') {
    if (!isMapping(value)) return refuse(rule, value, path, report)
    return entries ? fillMapping(entries, value, path, report) : fillSection(rule, value, path, report)
  }
  if (rule.type === 'array') {
    if (!Array.isArray(value)) return refuse(rule, value, path, report)
    if (value.length > (rule.maxItems ?? Infinity)) {
      const what = `has ${value.length} entries; ${describeRule(rule, nameOf(path))}`
      report({ path, at: 'value', shown: null, what })
      return undefined
    }
    return value.map((item, at) => fill(rule.items ?? {}, item, [...path, at], report))
  }
  return Check(rule as TSchema, value) ? value : refuse(rule, value, path, report)
}

/** One value by its own rule, as `applySchema`. `path` is the way to it, for the findings. */
export function applyRule(rule: Rule, given: unknown, path: Path): { value: unknown; findings: Finding[] } {
  const findings: Finding[] = []
  const value = fill(rule, given, path, (finding) => findings.push(finding))
  return { value, findings }
}

/**
 * The settings with every default filled in, or what is wrong with them. The schema library judges each plain
 * value; the walk around it is ours because every finding must name its place and what is allowed there.
 */
export function applySchema(settings: unknown): { value: unknown; findings: Finding[] } {
  return applyRule(configRule, settings, [])
}

import { describeAllowed, describeDefault } from '../src/config/allowed.ts'
import { otherVariables } from '../src/config/environment.ts'
import { fleetFlags, plainFlags } from '../src/config/flags.ts'
import { configRule, ruleOfEntries, toVariable, unitOf, type Rule } from '../src/config/knobs.ts'

/** docs/configuration.md as the schema tells it. */

const flagOf = new Map([...plainFlags, ...fleetFlags].map(({ path, flag }) => [path.join('.'), flag]))

const cell = (text: string) => text.replaceAll('|', '\\|')
const code = (text: string) => `\`${text}\``

function formatDefault(rule: Rule, isRequired: boolean): string {
  if (isRequired) return 'must be given'
  const value = describeDefault(rule)
  return value === null ? 'none' : code(value)
}

/** `a whole number of milliseconds from 1 to 5` -> without the unit, which has a column of its own. */
const withoutUnit = (allowed: string) => allowed.replace(/ of (milliseconds|bytes|tokens)/, '')

type Row = { name: string; rule: Rule; isRequired: boolean; path: readonly string[] | null }

function formatRow({ name, rule, isRequired, path }: Row): string {
  const cells = [
    code(name),
    withoutUnit(describeAllowed(rule, name)),
    formatDefault(rule, isRequired),
    unitOf(name) ?? '',
  ]
  if (path !== null) {
    const flag = flagOf.get(path.join('.'))
    cells.push(code(toVariable(path)) + (flag ? `, ${code(flag)}` : ''))
  }
  return `| ${[...cells, rule.description ?? ''].map(cell).join(' | ')} |`
}

/** The table of a section, or of the entries of a list, which have no variable of their own. */
function formatTable(rule: Rule, path: readonly string[] | null): string {
  const head = [
    'Name',
    'Allowed',
    'Default',
    'Unit',
    ...(path === null ? [] : ['Variable, flag']),
    'What it is for',
  ]
  const rows = Object.entries(rule.properties ?? {})
    .filter(([, inner]) => !inner.properties)
    .map(([name, inner]) =>
      formatRow({
        name,
        rule: inner,
        isRequired: inner.default === undefined,
        path: path === null ? null : [...path, name],
      }),
    )
  return [`| ${head.join(' | ')} |`, `| ${head.map(() => '---').join(' | ')} |`, ...rows].join('\n')
}

const indent = (text: string) =>
  text
    .split('\n')
    .map((line) => (line === '' ? '' : `  ${line}`))
    .join('\n')

/** What the example shows where the default would say little. */
const exampleLists: Readonly<Record<string, string>> = {
  models: `models:
  - name: llama
    source: hf:user/repo:llama.Q4_K_M.gguf # or tiny, or the path of a GGUF file
    instances: 2`,
  upstreams: `upstreams:
  - name: vllm-a
    url: http://10.0.0.5:8000/v1
    apiKeyEnv: VLLM_KEY # the variable that holds the key; the key itself never stands here
    models: { qwen: Qwen/Qwen3-8B } # public name: name at this upstream`,
  'routing.aliases': 'aliases: { gpt-4o: llama }',
  'routing.policies': 'policies: { llama: prefix }',
  'routing.fallbacks': 'fallbacks: { llama: [qwen] }',
  ingress: `ingress:
  - name: orders
    url: amqp://guest@127.0.0.1:5672
    passwordEnv: RABBITMQ_PASSWORD`,
  'server.hosts': 'hosts: [models.example.com]',
  'server.corsOrigins': 'corsOrigins: [https://app.example.com]',
  'auth.issuers': `issuers:
  - issuer: https://login.example.com/
    audiences: [autoglm]
    algorithms: [RS256]
    jwksUrl: https://login.example.com/.well-known/jwks.json`,
  'limits.models': 'models: { llama: { tokensPerMinute: 1000000 } }',
  tenants: 'tenants: { shop: { weight: 2, requestsPerMinute: 600, budgetPerMonth: 500 } }',
  prices: 'prices: { llama: { input: 0.2, cached: 0.05, output: 0.6 } }',
}

function formatExample(rule: Rule, path: readonly string[] = []): string {
  return Object.entries(rule.properties ?? {})
    .map(([name, inner]) => {
      const here = [...path, name]
      if (inner.properties) {
        return `\n# ${inner.description}\n${name}:\n${indent(formatExample(inner, here))}`
      }
      const line = exampleLists[here.join('.')] ?? `${name}: ${describeDefault(inner) ?? "''"}`
      return line.includes('\n') ? `\n# ${inner.description}\n${line}` : `${line} # ${inner.description}`
    })
    .join('\n')
}

/** A whole file with every setting, each with what it is for. It is valid as it stands, once `VLLM_KEY` and `RABBITMQ_PASSWORD` are set. */
export const exampleFile = (): string => `${formatExample(configRule).trim()}\n`

/** The sections, lists and mappings below `rule`, each with a table of its own, and what lies in them behind it. */
function formatParts(rule: Rule, path: readonly string[], hasVariables: boolean): string[] {
  return Object.entries(rule.properties ?? {}).flatMap(([name, inner]) => {
    const here = [...path, name]
    const entries = inner.items ?? ruleOfEntries(inner)
    if (inner.properties)
      return formatPart(inner, { title: here.join('.'), path: here, about: inner, hasVariables })
    if (!entries?.properties) return []
    const title = `${here.join('.')}${inner.items ? '[]' : '.<name>'}`
    return formatPart(entries, { title, path: here, about: inner, hasVariables: false })
  })
}

function formatPart(
  rule: Rule,
  part: { title: string; path: readonly string[]; about: Rule; hasVariables: boolean },
): string[] {
  const table = formatTable(rule, part.hasVariables ? part.path : null)
  return [
    `## ${code(part.title)}\n\n${part.about.description}\n\n${table}`,
    ...formatParts(rule, part.path, part.hasVariables),
  ]
}

export function writeConfigDocs(): string {
  const others = Object.entries(otherVariables).map(([name, text]) => `| ${code(name)} | ${text} |`)
  return `# Configuration

<!-- Written by \`npm run docs:config\` from src/config/schema.ts. Change it there. -->

Nothing needs to be configured: without a file, the bundled model \`tiny\` runs on two instances. It does so only while
neither \`models\` nor \`upstreams\` is given.

Settings come from three places, each stronger than the one before:

1. the file: \`autoglm.yaml\` (or \`autoglm.yml\`) in the current folder, or the one that \`--config\` or \`AUTOGLM_CONFIG\` names;
2. the environment: \`AUTOGLM_\` and the path in capitals, as in \`AUTOGLM_SERVER_PORT=9000\`. Lists and mappings are
   written as YAML or JSON, as in \`AUTOGLM_MODELS='[{name: a, source: tiny}]'\`, and replace those of the file. An empty variable
   counts as not set, and so do those that Kubernetes makes of a Service named \`autoglm\`;
3. flags, as in \`--port 9000\`. \`--model\` and \`--upstream\` replace the lists of the file.

\`autoglm validate\` checks everything and starts nothing; \`autoglm validate --print\` shows what is in effect. A name or
variable that is not known is a mistake, not a remark. Relative paths in the file start from its folder, others from the
current folder, and \`~/\` is your home. A section or list without any lines counts as left out.

A saved file, or \`SIGHUP\`, is taken over without losing a request; a bad one is refused and the old one stays. A restart is needed
for \`dataDir\`, \`log\`, the connect and first-byte timeouts and what belongs to the listening socket; the log says so.

## At the top

${formatTable(configRule, [])}

${formatParts(configRule, [], true).join('\n\n')}

## Other variables

| Variable | What it is for |
| --- | --- |
${others.join('\n')}
| \`HF_TOKEN\` | Token for \`hf:\` models that need one. It is sent to the hub alone. |
| \`HF_ENDPOINT\` | Another hub than https://huggingface.co, such as a mirror. |

## A file with every setting

\`\`\`yaml
${exampleFile().trimEnd()}
\`\`\`
`
} // prettier-ignore

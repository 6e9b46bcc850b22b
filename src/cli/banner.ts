import { commandName } from '../core/command-name.ts'

type BannerFacts = {
  version: string
  url: string
  configFile: string | null
  models: readonly { id: string; instances: readonly { id: string; state: string }[] }[]
  /** Upstreams that have not said yet which models they serve. */
  silent?: readonly string[]
  /** Whoever reaches the address is let in. */
  isOpen?: boolean
  /** Gateway processes that share the port. */
  processes?: number
}

/** An address that listens everywhere is reached at the loopback address. */
export function toReachableUrl(url: string): string {
  return url.replace('//0.0.0.0', '//127.0.0.1').replace('//[::]', '//[::1]')
}

/** `it's` -> `'it'\''s'`: one word for any shell. */
export const quoteForShell = (text: string) => `'${text.replaceAll("'", String.raw`'\''`)}'`

function formatInstances(instances: BannerFacts['models'][number]['instances']): string {
  if (instances.length === 0) return 'no instance'
  return instances.map(({ id, state }) => `${id} ${state}`).join(', ')
}

/** A request that can be pasted as it is. */
function formatCurl(url: string, model: string, isOpen: boolean): string {
  const body = JSON.stringify({ model, messages: [{ role: 'user', content: 'Tell me a story.' }] })
  const key = isOpen ? '' : ' -H "authorization: Bearer $AUTOGLM_API_KEY"'
  return `  curl ${url}/v1/chat/completions -H 'content-type: application/json'${key} \\\n    -d ${quoteForShell(body)}`
}

const openDoor = 'authentication is off: whoever reaches this address may do everything (auth.required)'

/** What a person sees when the server is ready: where it listens, what it serves, what to do next. */
export function formatBanner(facts: BannerFacts): string {
  const { version, url, configFile, models, silent = [], isOpen = false, processes = 1 } = facts
  const address = toReachableUrl(url)
  const chat = address === 'http://127.0.0.1:8080' ? 'chat' : `chat --url ${address}`
  const first = models.find(({ instances }) => instances.some(({ state }) => state === 'ready')) ?? models[0]
  return [
    `Open-AutoGLM ${version} listens on ${url}`,
    `configuration: ${configFile ?? 'defaults (no autoglm.yaml here)'}`,
    ...(isOpen ? [openDoor] : []),
    ...(processes > 1 ? [`${processes} gateway processes share the port`] : []),
    ...models.map(({ id, instances }) => `model ${id}: ${formatInstances(instances)}`),
    ...silent.map((id) => `upstream ${id}: has not told its models yet; it is asked again until it does`),
    '',
    ...(first ? ['Try it:', formatCurl(address, first.id, isOpen), ''] : []),
    `API page: ${address}/docs   Chat: ${commandName} ${chat}   Stop: Ctrl-C`,
    '',
  ].join('\n')
}

/** The same for a process that only works on tasks. */
export function formatWorkerBanner({ version, url, configFile, models, silent = [] }: BannerFacts): string {
  return [
    `Open-AutoGLM ${version} works on tasks`,
    `configuration: ${configFile ?? 'defaults (no autoglm.yaml here)'}`,
    ...models.map(({ id, instances }) => `model ${id}: ${formatInstances(instances)}`),
    ...silent.map((id) => `upstream ${id}: has not told its models yet; it is asked again until it does`),
    `health and metrics: ${toReachableUrl(url)}/healthz and /metrics, listens on ${url}   Stop: Ctrl-C`,
    '',
  ].join('\n')
}

import { findConfigFile, showFile } from '../config/config-file.ts'
import type { Flags } from '../config/flags.ts'
import { loadConfig } from '../config/load.ts'
import { printConfig } from '../config/print.ts'
import type { Config } from '../config/schema.ts'
import { parseModelSource } from '../fleet/model-source.ts'
import { refuseOpenDoor } from '../gateway/auth/exposure.ts'

/** What a valid configuration would run, in a few lines. */
function summarise({ models, upstreams, server, routing }: Config): string[] {
  const local = models.map(
    ({ name, source, instances }) => `  model ${name}: ${source} on ${instances} local instance(s)`,
  )
  const remote = upstreams.map(({ name, url, models }) => {
    const names = Object.keys(models)
    return `  upstream ${name}: ${url}, ${names.length === 0 ? 'models as it lists them' : names.join(', ')}`
  })
  return [
    ...local,
    ...remote,
    `  routing: ${routing.policy}`,
    `  listens on: ${server.tls.certFile === '' ? 'http' : 'https'}://${server.host}:${server.port}`,
  ]
}

/** Checks the configuration without starting anything; a mistake is a SetupError. */
export function validate(options: { config?: string; print?: boolean; flags: Flags }): number {
  const source = { file: options.config, env: process.env, cwd: process.cwd(), flags: options.flags }
  const config = loadConfig(source)
  // What a source points to is looked for at the start; how it is written is checked here.
  for (const model of config.models) parseModelSource(model.source)
  refuseOpenDoor(config)
  if (options.print) {
    process.stdout.write(printConfig(config))
    return 0
  }
  const file = findConfigFile(source)
  const head =
    file === null
      ? 'no autoglm.yaml here; the configuration is valid'
      : `${showFile(file, source.cwd)} is valid`
  process.stdout.write(`${[head, ...summarise(config)].join('\n')}\n`)
  return 0
}

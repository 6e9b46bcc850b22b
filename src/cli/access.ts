import type { Command } from 'commander'
import { commandName } from '../core/command-name.ts'
import { collect, urlFlag } from './options.ts'

/** Where the commands about keys and tenants work: at a server, or with `direct` on the storage. */
export type AccessOptions = {
  url?: string
  direct?: boolean
  config?: string
  dataDir?: string
  storage?: string
  json?: boolean
}
export type KeyCreateOptions = AccessOptions & {
  tenant: string
  name?: string
  role?: string[]
  expires?: string
  limit?: string[]
}
export type TokenOptions = { url?: string; role?: string[]; expires?: string; json?: boolean }

function addAccessOptions(command: Command): Command {
  return command
    .option(...urlFlag)
    .option('--direct', 'without a server: work on the storage itself')
    .option('--config <file>', 'with --direct: the configuration file (default: autoglm.yaml)')
    .option('--data-dir <folder>', 'with --direct: the folder of the embedded storage')
    .option('--storage <url>', 'with --direct: sqlite:PATH or postgres://…')
    .option('--json', 'print JSON')
}

const createHelp = `
The key is shown once: only a hash of it is kept. The first of all is made before the server runs:

  ${commandName} key create --direct --tenant default --role admin
  ${commandName} key create --tenant acme --name ci --expires 90d --limit requestsPerMinute=60

Roles: inference, tasks, read (these three without --role), admin.
`
const setHelp = `
Settings have the names of tenants in the configuration (docs/configuration.md); NAME= sets one back to its default.

  ${commandName} tenant set acme weight=2 requestsPerMinute=600 'models=[tiny, llama]'
`

/** Adds `key`, `tenant` and `token`. `onResult` is given the exit code of the one that ran. */
export function addAccessCommands(program: Command, onResult: (code: number) => void): void {
  addKeyCommands(program, onResult)
  addTenantCommands(program, onResult)

  program
    .command('token')
    .description('exchange the key of AUTOGLM_API_KEY for a short-lived token')
    .option(...urlFlag)
    .option('--role <role>', 'only this role of the key; can be given again', collect)
    .option('--expires <time>', 'good for no longer than this: 90s, 10m')
    .option('--json', 'print JSON')
    .action(async (options: TokenOptions) => onResult(await (await import('./token.ts')).printToken(options)))
}

function addKeyCommands(program: Command, onResult: (code: number) => void): void {
  const key = program.command('key').description('make, list and revoke keys')
  const load = () => import('./key.ts')

  addAccessOptions(key.command('create'))
    .description('make a key and print it, once')
    .requiredOption('--tenant <name>', 'whose key it is')
    .option('--name <text>', 'what it is for')
    .option('--role <role>', 'inference, tasks, read or admin; can be given again', collect)
    .option('--expires <time>', '2026-12-31T00:00:00Z, or 12h, 90d from now')
    .option('--limit <name=number>', 'requestsPerMinute, tokensPerMinute or concurrentMax; can be given again', collect)
    .addHelpText('after', createHelp)
    .action(async (options: KeyCreateOptions) => onResult(await (await load()).createKey(options)))

  addAccessOptions(key.command('list'))
    .description('list keys, newest first')
    .option('--tenant <name>', 'only those of this tenant')
    .action(async (options: AccessOptions & { tenant?: string }) => onResult(await (await load()).listKeys(options)))

  addAccessOptions(key.command('revoke <ids...>'))
    .description('revoke keys: within a second no server takes them or their tokens')
    .action(async (ids: string[], options: AccessOptions) => onResult(await (await load()).revokeKeys(ids, options)))
} // prettier-ignore

function addTenantCommands(program: Command, onResult: (code: number) => void): void {
  const tenant = program.command('tenant').description("list and change what is a tenant's own")
  const load = () => import('./tenant.ts')

  addAccessOptions(tenant.command('list'))
    .description('list the tenants of whom something is said')
    .action(async (options: AccessOptions) => onResult(await (await load()).listTenants(options)))

  addAccessOptions(tenant.command('show <name>'))
    .description('show the settings in effect')
    .action(async (name: string, options: AccessOptions) => onResult(await (await load()).showTenant(name, options)))

  addAccessOptions(tenant.command('set <name> [settings...]'))
    .description('change settings; those that are not named stay')
    .addHelpText('after', setHelp)
    .action(async (name: string, settings: string[], options: AccessOptions) =>
      onResult(await (await load()).setTenant(name, settings, options)),
    )

  addAccessOptions(tenant.command('remove <name>'))
    .description('forget what was set; keys, tasks and files stay')
    .action(async (name: string, options: AccessOptions) => onResult(await (await load()).removeTenant(name, options)))
} // prettier-ignore

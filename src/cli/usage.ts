import type { Command } from 'commander'
import { commandName } from '../core/command-name.ts'
import { collect, urlFlag } from './options.ts'

export type UsageOptions = {
  url?: string
  since?: string
  until?: string
  by?: string[]
  per?: string
  tenant?: string
  allTenants?: boolean
  key?: string
  model?: string
  json?: boolean
}

const examples = `
  ${commandName} usage                                    this month, by model
  ${commandName} usage --since 7d --per day               each of the last days
  ${commandName} usage --all-tenants --by tenant,model    who used what; with the permission admin

A key is read from AUTOGLM_API_KEY.
`

/** Adds `usage`. `onResult` is given the exit code. */
export function addUsageCommand(program: Command, onResult: (code: number) => void): void {
  program
    .command('usage')
    .description('show what was used: requests, tokens, time and cost')
    .option(...urlFlag)
    .option('--since <time>', '2026-01-31, 2026-01-31T18:00:00Z, or 7d, 12h ago (default: the beginning of this month)')
    .option('--until <time>', 'the same (default: now)')
    .option('--by <names>', 'tenant, key, model; with commas or given again (default: model)', collect)
    .option('--per <width>', 'a sum for each hour, day or month (default: one for all the time)')
    .option('--tenant <name>', 'another tenant')
    .option('--all-tenants', 'all tenants')
    .option('--key <id>', 'only this key; none for what no key was shown for')
    .option('--model <name>', 'only this model')
    .option('--json', 'print JSON')
    .addHelpText('after', examples)
    .action(async (options: UsageOptions) => onResult(await (await import('./usage-show.ts')).showUsage(options)))
} // prettier-ignore

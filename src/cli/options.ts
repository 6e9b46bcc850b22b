import type { Command } from 'commander'
import { fleetFlags, plainFlags, type Flags } from '../config/flags.ts'

/** For an option that can be given again. */
export const collect = (value: string, before: string[] = []) => [...before, value]

export const urlFlag = ['--url <url>', 'the server (default: AUTOGLM_URL, or http://127.0.0.1:8080)'] as const

/** Adds `--config` and a flag for each setting of the table; their values are judged by the configuration's schema. */
export function addConfigOptions(command: Command): Command {
  command.option('--config <file>', 'configuration file (default: autoglm.yaml in this folder, if there)')
  for (const { key, flag, argument, help } of [...fleetFlags, ...plainFlags]) {
    if (key === 'upstream') command.option(`${flag} ${argument}`, help, collect)
    else command.option(`${flag} ${argument}`, help)
  }
  return command
}

export type ConfigOptions = Flags & { config?: string }

/** The parsed options, split into the file and the settings. */
export function splitConfigOptions({ config, ...flags }: ConfigOptions): { config?: string; flags: Flags } {
  return config === undefined ? { flags } : { config, flags }
}

# bash completion for sallyport(8)
# shellcheck shell=bash

_sallyport() {
	local current=${COMP_WORDS[COMP_CWORD]}
	local previous=${COMP_WORDS[COMP_CWORD - 1]}
	local word words='' i

	COMPREPLY=()
	if [[ $previous == -c ]]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		compopt -o filenames 2> /dev/null
		return
	fi
	# the command so far, without options and their arguments
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		-c) ((i++)) ;;
		-*) ;;
		*) words+=" $word" ;;
		esac
	done
	case $words in
	'') words='check rules allow lease zombies zombie why complaint events report bypass plan probe simulate status reload healthy -c --json --help --version' ;;
	' rules') words='show apply verify remove --json --help' ;;
	' bypass') words='all list end --for --line --destination --json --help' ;;
	' bypass end') words='all --line --destination --json --help' ;;
	' bypass '*) words='--for --line --destination --json --help' ;;
	' allow') words='add del list import export audit --json --help' ;;
	' allow add'*) words='port25=pass port25=watch port25=relay port25=submit --until --for --pin --why --json --help' ;;
	' allow del'*) words='--why --json --help' ;;
	' allow import'*)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		compopt -o filenames 2> /dev/null
		return
		;;
	' lease') words='bind release --json --help' ;;
	' lease '*)
		if [[ $previous == --file ]]; then
			mapfile -t COMPREPLY < <(compgen -f -- "$current")
			compopt -o filenames 2> /dev/null
			return
		fi
		words='--file --json --help'
		;;
	' zombie') words='show clear pin add --json --help' ;;
	' events'*) words='--follow --help watch relay block submit wrap tunnel publish reset suspect probable zombie clear allow lease alarm' ;;
	' report'*)
		if [[ $previous == --output ]]; then
			mapfile -t COMPREPLY < <(compgen -d -- "$current")
			compopt -o filenames 2> /dev/null
			return
		fi
		words='--since --csv --html --xarf --output --json --help'
		;;
	' why'*) words='--at --json --help' ;;
	' zombie show'*) words='--json --help' ;;
	' zombie '*) words='--why --json --help' ;;
	' plan'*) words='--probe --json --help' ;;
	' simulate'*)
		if [[ $previous == --replay ]]; then
			mapfile -t COMPREPLY < <(compgen -f -- "$current")
			compopt -o filenames 2> /dev/null
			return
		fi
		words='--replay --set --seeds --lines --days -j --json --help'
		;;
	' check') words='--defaults --json --help' ;;
	*) words='--json --help' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _sallyport sallyport
